"""Which channels of a network go together, and what its layers cost with fewer of them; values alone.

A residual joins what both its branches give, a depthwise convolution passes channels on, a concatenation
moves them, a flattening spreads them over inputs of a linear layer. What is joined is a :class:`Group`, whose
channels can only go from all its layers at once (Fang et al. 2023, "DepGraph", section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["out", "in"]
_Numbers = NDArray[np.int64]
Kept = Mapping[str, Sequence[int]]
"""Of some groups, by name, the channels that stay, ascending; of a group that is not named all stay."""


@dataclass(frozen=True)
class Link:
    """A layer that makes (``out``) or reads (``in``) the channels of a group.

    ``places[c]`` are the places of channel ``c`` among what the layer makes or reads, as many of each:
    several where channels are flattened.
    """

    layer: str
    side: Side
    places: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Group:
    """Channels that go together, in all of ``links``.

    ``parts``: into so many equal runs the channels fall, each of which must keep as many as any other, as
    grouped convolutions ask. ``name`` is that of the first layer that makes them. ``extras``: learned numbers
    of a channel outside of the weights: biases, scales and shifts of norms.
    """

    name: str
    channels: int
    parts: int
    extras: int
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer as it costs: ``places`` outputs of (out, in / groups, kernel) weights.

    ``places`` is height times width of what it gives for one image; ``height`` and ``width`` are those of
    what it reads.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: int
    groups: int
    height: int
    width: int
    places: int

    @property
    def depthwise(self) -> bool:
        """Whether it has one filter a channel."""
        return 1 < self.groups == self.in_channels == self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self.places * self.weights

    @property
    def weights(self) -> int:
        """Numbers in its weight."""
        return self.out_channels * (self.in_channels // self.groups) * prod(self.kernel)


@dataclass(frozen=True)
class Channels:
    """What can be pruned of a network: its groups, first to last, its layers, and what must stay as it is.

    ``learned`` is how many numbers the whole network learned. ``untouched`` says of layers whose channels
    cannot be pruned why not, by name.
    """

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    learned: int
    untouched: Mapping[str, str]

    def shapes(self, widths: Mapping[str, int]) -> list[Layer]:
        """Return the layers of the network with so many channels of the groups named, others whole."""
        rows = zip(self.layers, self._sizes(widths).T.tolist(), strict=True)
        return [
            replace(layer, out_channels=made, in_channels=read, groups=groups)
            for layer, (made, read, groups) in rows
        ]

    def macs(self, widths: Mapping[str, int]) -> int:
        """Return the multiply-adds of one image with so many channels."""
        return int(self._places @ self._weights(widths))

    def params(self, widths: Mapping[str, int]) -> int:
        """Return how many learned numbers the network holds with so many channels."""
        lost = self._weights({}).sum() - self._weights(widths).sum()
        extras = sum(gone * group.extras for gone, group in zip(self._gone(widths), self.groups, strict=True))
        return int(self.learned - lost - extras)

    def _gone(self, widths: Mapping[str, int]) -> list[int]:
        return [group.channels - widths.get(group.name, group.channels) for group in self.groups]

    def _sizes(self, widths: Mapping[str, int]) -> _Numbers:
        """What every layer makes, reads, and in how many groups: (3, layers)."""
        made, read = self._whole[:2] - self._shares @ np.array(self._gone(widths), dtype=np.int64)
        alone = self._depthwise
        return np.stack([made, np.where(alone, made, read), np.where(alone, made, self._whole[2])])

    def _weights(self, widths: Mapping[str, int]) -> _Numbers:
        """How many numbers the weight of every layer holds."""
        made, read, groups = self._sizes(widths)
        weights: _Numbers = made * (read // groups) * self._kernels
        return weights

    # Searches ask for the cost of many thousand widths, so that what never changes is kept in arrays.
    @cached_property
    def _shares(self) -> _Numbers:
        """How many channels every layer makes and reads for one of each group: (2, layers, groups)."""
        numbers = {layer.name: number for number, layer in enumerate(self.layers)}
        shares = np.zeros((2, len(self.layers), len(self.groups)), dtype=np.int64)
        for column, group in enumerate(self.groups):
            for link in group.links:
                if link.layer in numbers:  # norms have no weight to count
                    shares[int(link.side == "in"), numbers[link.layer], column] += len(link.places[0])
        return shares

    @cached_property
    def _whole(self) -> _Numbers:
        rows = [(layer.out_channels, layer.in_channels, layer.groups) for layer in self.layers]
        return np.array(rows, dtype=np.int64).reshape(-1, 3).T

    @cached_property
    def _kernels(self) -> _Numbers:
        return np.array([prod(layer.kernel) for layer in self.layers], dtype=np.int64)

    @cached_property
    def _places(self) -> _Numbers:
        return np.array([layer.places for layer in self.layers], dtype=np.int64)

    @cached_property
    def _depthwise(self) -> NDArray[np.bool_]:
        return np.array([layer.depthwise for layer in self.layers], dtype=bool)
