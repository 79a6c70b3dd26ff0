"""What every space can do. Searchers see spaces through :class:`Space` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Protocol, runtime_checkable

from netsmith.arch import Arch
from netsmith.plan import Block, Plan


class Space(Protocol):
    """A set of architectures: what may be chosen, and where.

    A space is an immutable value. It owns everything about its archs, so that a new space
    needs no change in any searcher.
    """

    @property
    def id(self) -> str:
        """The name with a digest of the definition; what :attr:`Arch.space` holds."""

    def count(self) -> int:
        """How many archs there are, exactly."""

    def sample(self, rng: Random) -> Arch:
        """Draw an arch uniformly."""

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Return a neighbour that differs from ``arch`` (where the space holds another)."""

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Yield every arch that differs from ``arch`` in one decision, always in the same order."""

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        """Return a child that takes each decision from one of its parents."""

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """Return features of fixed length for a surrogate; distinct archs differ."""

    def check(self, arch: Arch) -> None:
        """Raise :class:`netsmith.errors.ArchError` unless ``arch`` is a point of this space."""


class DecisionSpace(Space, Protocol):
    """A space that can be told decision by decision, each by itself: every combination is some arch."""

    @property
    def options(self) -> Sequence[Sequence[int]]:
        """The values that each decision may take, in the order of :attr:`Arch.choices`."""

    def arch(self, choices: tuple[int, ...]) -> Arch:
        """Return the arch of a combination; several may be of one."""


class NamedSpace(DecisionSpace, Protocol):
    """A space whose decisions have names."""

    @property
    def decisions(self) -> Mapping[str, Sequence[str]]:
        """The name of each number of :attr:`Arch.choices`, in their order, and of each of its values."""


@runtime_checkable
class BuildableSpace(NamedSpace, Protocol):
    """A space whose archs can be built, and not only be looked up."""

    def plan(self, arch: Arch) -> Plan:
        """Return the blocks that ``arch`` stands for."""


class BlockSpace(BuildableSpace, Protocol):
    """A space whose archs are a fixed stem, one block for each decision, and a fixed head.

    ``edges`` are the blocks that an edge's block is made of: one of them, or a sum of several.
    """

    @property
    def stem(self) -> tuple[Block, ...]:
        """The blocks before those that are decided."""

    @property
    def edges(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each edge."""

    @property
    def head(self) -> tuple[Block, ...]:
        """The blocks behind those that are decided."""

    @property
    def name(self) -> str:
        """What kind of space it is."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every distinct block that the cost of an arch is a sum of: what a latency table must hold."""

    @property
    def alternatives(self) -> tuple[Mapping[int, Block], ...]:
        """The block that each value of each decision stands for."""


class GrowingSpace(Space, Protocol):
    """A space whose archs are sequences that grow layer by layer, as progressive search asks.

    Its choices have one length all the same: 0 stands behind the last layer, to the end.
    """

    def children(self, arch: Arch | None) -> Iterator[Arch]:
        """Yield every arch that is ``arch`` with one layer more, always in the same order.

        Of None the shortest archs; none of an arch that has the greatest length.
        """

    def tokens(self, arch: Arch) -> tuple[int, ...]:
        """Return the layers of ``arch`` in their order, each a number from 1 up; its length is the depth."""

    @property
    def vocabulary(self) -> int:
        """How many distinct tokens there are: they are 1..vocabulary."""
