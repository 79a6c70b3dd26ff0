"""The tree of paths in the place of a layer: operations, and nodes that branch and put together.

A path is an operation and what comes behind it. All of it keeps height and width; the operations inside a
tree keep the channels too (Cai et al. 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.layers import BatchNorm, BatchNormReLU, BatchNormReLU6, DepthwiseConv2d
from netsmith.spaces.tree import EDGES

Activation = Literal["none", "relu", "relu6"]
NORMS: dict[Activation, type[nn.BatchNorm2d]] = {
    "none": BatchNorm,
    "relu": BatchNormReLU,
    "relu6": BatchNormReLU6,
}


class Path(nn.Module):
    """``edge``, then ``node``: (N, C, H, W) -> (N, channels, H', W')."""

    def __init__(self, edge: nn.Module, channels: int) -> None:
        super().__init__()
        self.edge, self.channels = edge, channels
        self.node: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.node(self.edge(x))
        return out


class Added(nn.Module):
    """The mean of what paths give that all take the same: (N, C, H, W) -> (N, channels, H', W')."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.channels = paths[0].channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.paths
        total: torch.Tensor = first(x)
        for path in others:
            total = total + path(x)
        return total * (1 / len(self.paths))


class Concatenated(nn.Module):
    """What paths give, side by side: (N, C, H, W) -> (N, channels, H', W').

    Each takes its share of the channels, ``takes`` of them in turn; or all take the same, where that is None.
    """

    def __init__(self, paths: Sequence[Path], takes: Sequence[int] | None) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.channels = sum(path.channels for path in paths)
        self.takes = None if takes is None else list(takes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x] * len(self.paths) if self.takes is None else torch.split(x, self.takes, dim=1)
        return torch.cat([path(part) for path, part in zip(self.paths, parts, strict=True)], dim=1)


class Tree(nn.Module):
    """What stands in the place of a layer: one path, or a node of several, whose edges are that layer."""

    def __init__(self, body: Path | Added | Concatenated, activation: Activation) -> None:
        super().__init__()
        self.body, self.activation = body, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def edge_of(name: str, channels: int, activation: Activation) -> nn.Module:
    """Return the operation of a tree's edge, (N, channels, H, W) to the same, with weights drawn at random.

    Convolutions have a batch norm and the activation behind them; a separable one is depthwise, then 1x1.
    Raises :class:`SpaceError` on a name that is none of ``EDGES``.
    """
    if name not in EDGES:
        raise SpaceError(f"'{name}' is no operation of a tree; there are {', '.join(EDGES)}")
    kind, _, size = name.partition(" ")
    if kind in _PLAIN:
        return _PLAIN[kind]()
    layers: list[nn.Module] = [DepthwiseConv2d(channels, int(size))] if kind == "separable" else []
    layers.append(nn.Conv2d(channels, channels, 1, bias=False))
    return nn.Sequential(*layers, NORMS[activation](channels))


_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "max": lambda: nn.MaxPool2d(3, 1, 1),
    "average": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}
