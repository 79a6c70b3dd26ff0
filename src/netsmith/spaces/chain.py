"""Spaces of chains: one block after another, each chosen among options of equal shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from netsmith.arch import Arch
from netsmith.errors import SpaceError
from netsmith.plan import Block, Plan
from netsmith.spaces.choices import ChoiceSpace


@dataclass(frozen=True)
class ChainSpace(ChoiceSpace):
    """A fixed stem, a chain of edges with a choice of one block each, and a fixed head.

    ``edges[i][j]`` is option ``j`` of edge ``i``; every option of an edge has the same input
    and output shapes, so that choices are independent. Raises :class:`SpaceError` otherwise.
    """

    name: str
    stem: tuple[Block, ...]
    edges: tuple[tuple[Block, ...], ...]
    head: tuple[Block, ...]

    def __post_init__(self) -> None:
        check_chain(self.name, self.stem, self.edges, self.head)

    @cached_property
    def id(self) -> str:
        """The name with a digest of every block, such as ``mbconv-1f0c9a3e``."""
        return chain_id(self.name, self.stem, self.edges, self.head)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (*self.stem, *self.edges[0], *self.head)[0].input_shape

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every distinct block of the space: what a latency table must hold."""
        every = [*self.stem, *(b for options in self.edges for b in options), *self.head]
        return tuple(dict.fromkeys(every))

    @cached_property
    def alternatives(self) -> tuple[Mapping[int, Block], ...]:
        """The block that each value of each choice stands for."""
        return tuple(dict(enumerate(options)) for options in self.edges)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many options each edge has."""
        return tuple(map(len, self.edges))

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each edge by its place, and the keys of its options."""
        return {f"block {i:02}": tuple(b.key for b in options) for i, options in enumerate(self.edges, 1)}

    def plan(self, arch: Arch) -> Plan:
        """Return the stem, the chosen blocks and the head."""
        self.check(arch)
        chosen = (o[c] for o, c in zip(self.edges, arch.choices, strict=True))
        return Plan((*self.stem, *chosen, *self.head))


def check_chain(
    name: str, stem: Sequence[Block], edges: Sequence[Sequence[Block]], head: Sequence[Block]
) -> None:
    """Raise :class:`SpaceError` unless the options of each edge are distinct and fit those around them."""
    if not edges or not all(edges):
        raise SpaceError(f"space '{name}' needs at least one edge, and an option on each")
    for index, options in enumerate(edges):
        keys = [b.key for b in options]
        if len({(b.input_shape, b.out_channels, b.output_size) for b in options}) != 1:
            raise SpaceError(f"options of edge {index} differ in their shapes: {keys}")
        if len(set(keys)) != len(keys):
            raise SpaceError(f"options of edge {index} are not distinct: {keys}; give each once")
    for before, after in pairwise([*stem, *(options[0] for options in edges), *head]):
        if after.input_shape != (before.out_channels, *before.output_size):
            raise SpaceError(
                f"block {after.key} takes {after.input_shape}, but the block before it, "
                f"{before.key}, gives {(before.out_channels, *before.output_size)}"
            )


def chain_id(
    name: str, stem: Sequence[Block], edges: Sequence[Sequence[Block]], head: Sequence[Block]
) -> str:
    """Return the name with a digest of every block."""
    keys = [[b.key for b in stem], [[b.key for b in options] for options in edges], [b.key for b in head]]
    return f"{name}-{hashlib.blake2b(json.dumps(keys).encode(), digest_size=4).hexdigest()}"
