"""The space of path-level transformation (Cai et al. 2018): the tree of paths that a layer is grown into.

A node hands what it gets to its branches and puts together what they give: all of it to each, the mean of
what they give (``add``), or a part of the channels to each, their outputs side by side (``concat``). A branch
is an operation, and a node behind it or none. The branches of the root have the layer itself as their
operation, each with weights of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from random import Random
from typing import Any, Literal

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError

# Number 0 changes nothing, so that a new branch is the least that there can be.
EDGES = ("identity", "separable 3", "separable 5", "separable 7", "conv 1", "max pool", "average pool")
MERGES: tuple[tuple[Literal["add", "concat"], int] | None, ...] = (
    None, ("add", 2), ("add", 3), ("concat", 2),
)  # fmt: skip
LAYER = "layer"  # the operation of the root's branches
MOST_BRANCHES, MOST_DEPTH = 3, 3

Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """Branches, and how what they give is put together."""

    merge: Literal["add", "concat"]
    branches: tuple[Branch, ...]

    def __str__(self) -> str:
        return f"{self.merge}({', '.join(map(str, self.branches))})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON: ``merge``, and ``branches`` of an ``edge`` and a ``node`` or null."""
        pairs = ((branch.edge, branch.node) for branch in self.branches)
        behind = [{"edge": edge, "node": None if node is None else node.to_dict()} for edge, node in pairs]
        return {"merge": self.merge, "branches": behind}


@dataclass(frozen=True, slots=True)
class Branch:
    """An operation, and the node behind it."""

    edge: str = EDGES[0]
    node: Node | None = None

    def __str__(self) -> str:
        return self.edge if self.node is None else f"{self.edge} > {self.node}"


# TreeCell-A of the release, which Cai et al. put in the place of all 3x3 convolutions but the first.
TREE_CELL_A = Node("add", (
    Branch(LAYER, Node("add", (
        Branch("conv 1", Node("concat", (Branch("average pool"), Branch("separable 7")))),
        Branch("max pool", Node("add", (Branch("separable 3"), Branch("separable 5")))),
    ))),
    Branch(LAYER, Node("add", (
        Branch("separable 5", Node("add", (
            Branch("separable 5"), Branch("average pool"), Branch("average pool"),
        ))),
        Branch("separable 3", Node("add", (Branch("average pool"), Branch("separable 3")))),
    ))),
))  # fmt: skip


@dataclass(frozen=True)
class TreeSpace:
    """The trees of nodes up to ``depth``, for one ``network``, which its name tells from others.

    ``choices`` are the slots of the fullest tree, depth first: of a node its merge, a number of ``MERGES``,
    then three branches; of a branch its edge, a number of ``EDGES`` (the root's have none), then its node,
    above the greatest depth. What a tree does not have is 0. Number 0 everywhere is the network as it is.
    """

    network: str
    depth: int = MOST_DEPTH

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MOST_DEPTH:
            raise SpaceError(f"trees have a depth of 1 to {MOST_DEPTH} nodes; got {self.depth}")

    @cached_property
    def id(self) -> str:
        """The name with a digest of the definition."""
        text = json.dumps([*astuple(self), EDGES, MERGES])
        return f"tree-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"

    @cached_property
    def options(self) -> tuple[range, ...]:
        """The values that each slot may hold where the tree has it."""
        return tuple(_options(self.depth, root=True))

    def count(self) -> int:
        """How many archs there are, exactly."""
        trees = 1
        for level in range(1, self.depth + 1):
            branches = trees * (len(EDGES) if level < self.depth else 1)
            trees = 1 + sum(branches ** merge[1] for merge in MERGES if merge is not None)
        return trees

    @cached_property
    def decisions(self) -> Mapping[str, tuple[str, ...]]:
        """The name of each slot, by the numbers of branches from the root, and of each of its values."""
        return dict(_named(self.depth, "root", root=True))

    def arch(self, choices: Slots) -> Arch:
        """Return the arch of any numbers of :attr:`options`: of slots that the tree does not have, 0."""
        return Arch(self.id, tuple(_written(_read(choices, self.depth, root=True), self.depth, root=True)))

    def arch_of(self, node: Node | None) -> Arch:
        """Return the arch of a tree, None for the network as it is, checked."""
        arch = Arch(self.id, tuple(_written(node, self.depth, root=True)))
        self.check(arch)
        return arch

    def tree(self, arch: Arch) -> Node | None:
        """Return the tree that an arch stands for, None for the network as it is."""
        self.check(arch)
        return _read(arch.choices, self.depth, root=True)

    def sample(self, rng: Random) -> Arch:
        """Draw a tree from the root down, as published: each node is there or not, then how it merges.

        That is not uniform, of which nearly all trees are the fullest. The network as it is is not drawn.
        """
        return self.arch_of(_drawn(rng, self.depth, root=True))

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Return one of the neighbours, all alike."""
        return rng.choice(list(self.neighbours(arch)))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Yield every arch that has another edge or another merge at one place.

        A branch is only taken away while it is an identity without a node.
        """
        self.check(arch)
        choices = arch.choices
        for place, values in enumerate(self.options):
            for value in values:
                if value != choices[place]:
                    other = (*choices[:place], value, *choices[place + 1 :])
                    if self._whole(other):
                        yield Arch(self.id, other)

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        """Take each edge from one of the parents, and each node whole where they merge differently."""
        self.check(first)
        self.check(second)
        return Arch(self.id, tuple(_crossed(first.choices, second.choices, self.depth, rng, root=True)))

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """One-hot of every slot."""
        self.check(arch)
        pairs = zip(arch.choices, self.options, strict=True)
        return tuple(float(choice == value) for choice, values in pairs for value in values)

    def check(self, arch: Arch) -> None:
        """Raise :class:`ArchError` unless ``arch`` is a point of this space."""
        choices = arch.choices
        if arch.space != self.id:
            raise ArchError(f"the arch is of space '{arch.space}', not of '{self.id}'")
        if len(choices) != len(self.options):
            raise ArchError(f"an arch of '{self.id}' has {len(self.options)} slots; got {len(choices)}")
        for place, (choice, values) in enumerate(zip(choices, self.options, strict=True)):
            if choice not in values:
                raise ArchError(f"slot {place} holds {choice}; it may hold 0 to {values[-1]}")
        if not self._whole(choices):
            raise ArchError(f"slots that the tree does not have are 0; got {choices}")

    def _whole(self, choices: Slots) -> bool:
        """Whether what the tree does not have is 0."""
        return tuple(_written(_read(choices, self.depth, root=True), self.depth, root=True)) == choices


def _slots(depth: int, *, root: bool = False) -> int:
    """How many slots a node has with all that may be behind it."""
    return 1 + MOST_BRANCHES * (int(not root) + _slots(depth - 1)) if depth else 0


def _options(depth: int, *, root: bool = False) -> Iterator[range]:
    if not depth:
        return
    yield range(len(MERGES))
    for _ in range(MOST_BRANCHES):
        if not root:
            yield range(len(EDGES))
        yield from _options(depth - 1)


def _named(depth: int, place: str, *, root: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not depth:
        return
    yield f"{place} merge", tuple("none" if merge is None else f"{merge[0]} {merge[1]}" for merge in MERGES)
    for number in range(1, MOST_BRANCHES + 1):
        behind = f"{place}.{number}"
        if not root:
            yield f"{behind} edge", EDGES
        yield from _named(depth - 1, behind)


def _branches(choices: Slots, depth: int, *, root: bool) -> list[Slots]:
    """The slots of a node's branches, those that it does not have too."""
    each = _slots(depth - 1) + int(not root)
    return [choices[1 + i * each : 1 + (i + 1) * each] for i in range(MOST_BRANCHES)]


def _read(choices: Slots, depth: int, *, root: bool = False) -> Node | None:
    merge = MERGES[choices[0]] if depth else None
    if merge is None:
        return None
    found = []
    for slots in _branches(choices, depth, root=root)[: merge[1]]:
        edge, behind = (LAYER, slots) if root else (EDGES[slots[0]], slots[1:])
        found.append(Branch(edge, _read(behind, depth - 1)))
    return Node(merge[0], tuple(found))


def _written(node: Node | None, depth: int, *, root: bool = False) -> Iterator[int]:
    if not depth:
        if node is not None:
            raise ArchError(f"the tree is deeper than the space allows: {node}")
        return
    if node is None:
        yield from (0,) * _slots(depth, root=root)
        return
    merge = (node.merge, len(node.branches))
    if merge not in MERGES:
        raise ArchError(f"a node adds 2 or 3 branches or puts 2 side by side; got {node}")
    yield MERGES.index(merge)
    for number in range(MOST_BRANCHES):
        branch = node.branches[number] if number < len(node.branches) else None
        yield from _written_branch(branch, depth, root=root)


def _written_branch(branch: Branch | None, depth: int, *, root: bool) -> Iterator[int]:
    if branch is not None and branch.edge not in ((LAYER,) if root else EDGES):
        raise ArchError(
            f"'{branch.edge}' is no operation here; there are {', '.join((LAYER,) if root else EDGES)}"
        )
    if not root:
        yield 0 if branch is None else EDGES.index(branch.edge)
    yield from _written(None if branch is None else branch.node, depth - 1)


def _drawn(rng: Random, depth: int, *, root: bool = False) -> Node | None:
    if not depth or not (root or rng.random() < 0.5):
        return None
    merge, count = rng.choice([merge for merge in MERGES if merge is not None])
    edges = [LAYER if root else rng.choice(EDGES) for _ in range(count)]
    return Node(merge, tuple(Branch(edge, _drawn(rng, depth - 1)) for edge in edges))


def _crossed(first: Slots, second: Slots, depth: int, rng: Random, *, root: bool = False) -> Iterator[int]:
    if not depth:
        return
    if first[0] != second[0]:
        yield from (first, second)[rng.randrange(2)]
        return
    yield first[0]
    pairs: Sequence[tuple[Slots, Slots]] = list(
        zip(_branches(first, depth, root=root), _branches(second, depth, root=root), strict=True)
    )
    for one, other in pairs:
        if not root:
            yield (one, other)[rng.randrange(2)][0]
            one, other = one[1:], other[1:]
        yield from _crossed(one, other, depth - 1, rng)
