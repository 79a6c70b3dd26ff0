"""Spaces of chains: one block after another, each chosen among options of equal shapes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from random import Random

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError
from netsmith.plan import Block, Plan


@dataclass(frozen=True)
class ChainSpace:
    """A fixed stem, a chain of edges with a choice of one block each, and a fixed head.

    ``edges[i][j]`` is option ``j`` of edge ``i``; every option of an edge has the same input
    and output shapes, so that choices are independent. Raises :class:`SpaceError` otherwise.
    """

    name: str
    stem: tuple[Block, ...]
    edges: tuple[tuple[Block, ...], ...]
    head: tuple[Block, ...]

    def __post_init__(self) -> None:
        if not self.edges or not all(self.edges):
            raise SpaceError(f"space '{self.name}' needs at least one edge, and an option on each")
        for index, options in enumerate(self.edges):
            keys = [b.key for b in options]
            if len({(b.input_shape, b.out_channels, b.output_size) for b in options}) != 1:
                raise SpaceError(f"options of edge {index} differ in their shapes: {keys}")
            if len(set(keys)) != len(keys):
                raise SpaceError(f"options of edge {index} are not distinct: {keys}; give each once")
        chain = [*self.stem, *(options[0] for options in self.edges), *self.head]
        for before, after in pairwise(chain):
            if after.input_shape != (before.out_channels, *before.output_size):
                raise SpaceError(
                    f"block {after.key} takes {after.input_shape}, but the block before it, "
                    f"{before.key}, gives {(before.out_channels, *before.output_size)}"
                )

    @cached_property
    def id(self) -> str:
        """The name with a digest of every block, such as ``mbconv-1f0c9a3e``."""
        keys = [
            [b.key for b in self.stem],
            [[b.key for b in options] for options in self.edges],
            [b.key for b in self.head],
        ]
        digest = hashlib.blake2b(json.dumps(keys).encode(), digest_size=4).hexdigest()
        return f"{self.name}-{digest}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (*self.stem, *self.edges[0], *self.head)[0].input_shape

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every distinct block of the space: what a latency table must hold."""
        every = [*self.stem, *(b for options in self.edges for b in options), *self.head]
        return tuple(dict.fromkeys(every))

    def count(self) -> int:
        """How many archs there are, exactly."""
        return math.prod(len(options) for options in self.edges)

    def arch(self, choices: tuple[int, ...]) -> Arch:
        """Return the arch of these option indices, one for each edge, checked."""
        arch = Arch(self.id, tuple(choices))
        self.check(arch)
        return arch

    def sample(self, rng: Random) -> Arch:
        """Draw an arch uniformly."""
        return Arch(self.id, tuple(rng.randrange(len(options)) for options in self.edges))

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Change one decision, and each further one with the probability of one in their number."""
        self.check(arch)
        free = [i for i, options in enumerate(self.edges) if len(options) > 1]
        if not free:
            return arch
        first = rng.choice(free)
        choices = list(arch.choices)
        for i in free:
            if i == first or rng.random() < 1 / len(free):
                others = [j for j in range(len(self.edges[i])) if j != choices[i]]
                choices[i] = rng.choice(others)
        return Arch(self.id, tuple(choices))

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        """Take each decision from one parent or the other with equal probability."""
        self.check(first)
        self.check(second)
        pairs = zip(first.choices, second.choices, strict=True)
        return Arch(self.id, tuple(pair[rng.randrange(2)] for pair in pairs))

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """One-hot of every decision, concatenated."""
        self.check(arch)
        return tuple(
            float(choice == j)
            for choice, options in zip(arch.choices, self.edges, strict=True)
            for j in range(len(options))
        )

    def plan(self, arch: Arch) -> Plan:
        """Return the stem, the chosen blocks and the head."""
        self.check(arch)
        chosen = (o[c] for o, c in zip(self.edges, arch.choices, strict=True))
        return Plan((*self.stem, *chosen, *self.head))

    def check(self, arch: Arch) -> None:
        """Raise :class:`ArchError` unless ``arch`` is a point of this space."""
        if arch.space != self.id:
            raise ArchError(f"the arch is of space '{arch.space}', not of this space '{self.id}'")
        if len(arch.choices) != len(self.edges):
            raise ArchError(
                f"space '{self.id}' has {len(self.edges)} decisions; the arch has {len(arch.choices)}"
            )
        for i, (choice, options) in enumerate(zip(arch.choices, self.edges, strict=True)):
            if not 0 <= choice < len(options):
                raise ArchError(f"decision {i} is one of 0..{len(options) - 1}; got {choice}")
