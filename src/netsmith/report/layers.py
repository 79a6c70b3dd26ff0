"""What a compression left of each layer of a network, or made of it, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netsmith.report.folder import Folder, number
from netsmith.report.text import TIMES

_MOST = 2000


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer; of channels and multiply-adds what it had, and what is left.

    ``bar`` and ``fill`` are per cent of the widest layer; ``reason`` says why it keeps its channels.
    """

    name: str
    operation: str
    inputs: tuple[float, float]
    outputs: tuple[float, float]
    macs: tuple[float, float]
    bar: float
    fill: float
    reason: str

    @property
    def kept(self) -> float:
        """The share of its multiply-adds that is left, 0..1."""
        return self.macs[1] / self.macs[0] if self.macs[0] else 1.0


def layers(folder: Folder) -> list[Layer]:
    """Return the layers in the order in which they run; none of what was not compressed."""
    found = folder.arch.get("layers")
    rows = [row for row in found[:_MOST] if isinstance(row, Mapping)] if isinstance(found, list) else []
    known = [row for row in rows if all(_pair(row.get(name)) for name in ("inputs", "outputs", "macs"))]
    widest = max((row["outputs"][0] for row in known), default=1) or 1
    return [_layer(row, widest) for row in known]


def precisions(folder: Folder) -> list[tuple[str, str]]:
    """Return the layers and what each computes in; none where all compute in what the device says."""
    found = folder.arch.get("precisions")
    return [(str(k), str(v)) for k, v in list(found.items())[:_MOST]] if isinstance(found, Mapping) else []


def _layer(row: Mapping[str, Any], widest: float) -> Layer:
    before, after = row["outputs"]
    return Layer(
        str(row.get("name")),
        _operation(row),
        tuple(row["inputs"]),
        (before, after),
        tuple(row["macs"]),
        100 * before / widest,
        100 * after / widest,
        str(row.get("untouched") or ""),
    )


def _operation(row: Mapping[str, Any]) -> str:
    kernel = row.get("kernel")
    sides = [str(side) for side in kernel[:2] if number(side) is not None] if isinstance(kernel, list) else []
    if not sides:
        return "linear"
    return f"{'depthwise ' if row.get('depthwise') else ''}{TIMES.join(sides)}"


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and None not in map(number, value)
