"""Which channels of a network go together, and what its layers cost with fewer of them; values alone.

A residual joins what both its branches give, a depthwise convolution passes channels on, a concatenation
moves them, a flattening spreads them over inputs of a linear layer. What is joined is a :class:`Group`, whose
channels can only go from all its layers at once (Fang et al. 2023, "DepGraph", section 3.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

Side = Literal["out", "in"]
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
        lost: dict[tuple[str, Side], int] = defaultdict(int)
        for group in self.groups:
            if group.name in widths:
                gone = group.channels - widths[group.name]
                for link in group.links:
                    lost[link.layer, link.side] += gone * len(link.places[0])
        return [_narrowed(layer, lost[layer.name, "in"], lost[layer.name, "out"]) for layer in self.layers]

    def macs(self, widths: Mapping[str, int]) -> int:
        """Return the multiply-adds of one image with so many channels."""
        return sum(layer.macs for layer in self.shapes(widths))

    def params(self, widths: Mapping[str, int]) -> int:
        """Return how many learned numbers the network holds with so many channels."""
        lost = sum(layer.weights for layer in self.layers) - sum(x.weights for x in self.shapes(widths))
        gone = {g: g.channels - widths[g.name] for g in self.groups if g.name in widths}
        return self.learned - lost - sum(count * group.extras for group, count in gone.items())


def _narrowed(layer: Layer, lost_in: int, lost_out: int) -> Layer:
    out = layer.out_channels - lost_out
    if layer.depthwise:
        return replace(layer, in_channels=out, out_channels=out, groups=out)
    return replace(layer, in_channels=layer.in_channels - lost_in, out_channels=out)
