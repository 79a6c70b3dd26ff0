"""The networks that path-level transformation can begin with, of any width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from netsmith.nn.densenet import densenet
from netsmith.nn.network import Network
from netsmith.nn.pyramidnet import pyramidnet
from netsmith.spaces.mobilenetv2 import mobilenetv2

WIDTHS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
# Of each stage: between the one of the published search and the 16 or 18 of the published answers.
BLOCKS, GROUPS = 2, 2

Shape = tuple[int, int, int]


def _pyramidnet(shape: Shape, classes: int, width: float) -> nn.Module:
    first = _even(16 * width)
    return pyramidnet(BLOCKS, 48 * width, GROUPS, shape=shape, classes=classes, first=first)


def _densenet(shape: Shape, classes: int, width: float) -> nn.Module:
    return densenet(BLOCKS, _even(48 * width), GROUPS, channels=shape[0], classes=classes)


_MAKERS: dict[str, Callable[[Shape, int, float], nn.Module]] = {
    "densenet": _densenet,
    "pyramidnet": _pyramidnet,
    "mobilenetv2": lambda shape, classes, width: Network(mobilenetv2(shape, classes, width)),
}


@dataclass(frozen=True)
class Start:
    """A network by its name and width, for images of ``shape`` (C, H, W)."""

    name: str
    width: float
    shape: Shape
    classes: int

    def network(self) -> nn.Module:
        """Build it, its weights untrained."""
        return _MAKERS[self.name](self.shape, self.classes, self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads."""
        return {"name": self.name, "width": self.width, "shape": list(self.shape), "classes": self.classes}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Start:
        """Read :meth:`to_dict`'s values. Raises ValueError, KeyError or TypeError on others."""
        channels, height, width = map(int, data["shape"])
        made = cls(str(data["name"]), float(data["width"]), (channels, height, width), int(data["classes"]))
        if made.name not in _MAKERS or made.width not in WIDTHS or max(channels, made.classes) > 10**5:
            raise ValueError(f"no such start: {data!r:.200}")
        return made


def _even(number: float) -> int:
    return max(2, 2 * round(number / 2))
