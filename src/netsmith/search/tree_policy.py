"""The policy of path-level EAS (Cai et al. 2018): probabilities of trees, by a bidirectional tree-LSTM.

A tree is made from the root down: whether a path goes on to a node, how that merges and how many branches it
has, and what each branch's operation is. Before every decision the tree so far is read twice, from the leaves
up and from the root down; what both say of the place is what the decision is made by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.spaces.tree import EDGES, LAYER, MERGES, Branch, Node

EMBEDDING, HIDDEN, HEAD = 10, 100, 500  # of the release
_NODES = tuple(merge for merge in MERGES if merge is not None)

State = tuple[torch.Tensor, torch.Tensor]
Step = tuple[str, tuple[int, ...], int]
"""A kind of decision, its place, and the option that is taken."""
Known = Callable[[str, tuple[int, ...]], int | None]
"""What is taken of a kind of decision at a place; None where that is to be drawn."""


@dataclass(eq=False)
class Spot:
    """A path of a tree that is being made: its edge, and how many branches of what merge are behind it.

    ``up`` is what is known of it from its leaves, until something below it changes.
    """

    depth: int
    edge: str | None = None
    merge: str | None = None
    children: list[Spot] = field(default_factory=list)
    parent: Spot | None = None
    up: State | None = None

    def decide(self, edge: str) -> None:
        """Give it its edge."""
        self.edge = edge
        self._changed()

    def branch(self, merge: str, count: int, edge: str | None) -> None:
        """Put branches behind it, whose edges are this one or undecided."""
        self.merge = merge
        self.children = [Spot(self.depth + 1, edge, parent=self) for _ in range(count)]
        self._changed()

    @property
    def place(self) -> list[int]:
        """The number of its branch at every node from the root down."""
        return [] if self.parent is None else [*self.parent.place, self.parent.children.index(self)]

    def _changed(self) -> None:
        spot: Spot | None = self
        while spot is not None:
            spot.up = None
            spot = spot.parent

    def node(self) -> Node | None:
        """Return what is behind it as the space writes it."""
        if not self.children:
            return None
        branches = (Branch(child.edge or EDGES[0], child.node()) for child in self.children)
        return Node("add" if self.merge == "add" else "concat", tuple(branches))


@dataclass
class Decision:
    """What was decided at a place, by the logarithms of its options' probabilities."""

    kind: str
    place: tuple[int, ...]
    logs: torch.Tensor
    taken: int


@dataclass
class Walk:
    """A tree, and the decisions that it was made by, in turn."""

    tree: Node | None
    decisions: list[Decision]

    @property
    def likelihood(self) -> torch.Tensor:
        """The logarithm of the tree's probability."""
        return torch.stack([each.logs[each.taken] for each in self.decisions]).sum()

    @property
    def entropy(self) -> torch.Tensor:
        """The entropies of the decisions, summed."""
        logs = torch.cat([each.logs for each in self.decisions])
        return -(logs.exp() * logs).sum()


class TreePolicy(nn.Module):
    """Probabilities of decisions, by a bidirectional tree-LSTM over the tree so far."""

    def __init__(self, hidden: int = HIDDEN, head: int = HEAD) -> None:
        super().__init__()
        self.hidden = hidden
        self.edges = nn.Embedding(len(EDGES) + 2, EMBEDDING)  # the layer's own, and one that is undecided
        self.merges = nn.Embedding(len(_NODES), EMBEDDING)
        self.up_node, self.up_edge = _UpCell(hidden), nn.LSTMCell(EMBEDDING, hidden)
        self.down_node, self.down_edge = _DownCell(hidden), nn.LSTMCell(EMBEDDING, hidden)
        self.heads = nn.ModuleDict({
            name: nn.Sequential(nn.Linear(2 * hidden, head), nn.ReLU(), nn.Linear(head, options))
            for name, options in (("expand", 2), ("node", len(_NODES)), ("edge", len(EDGES)))
        })  # fmt: skip
        for name, parameter in self.named_parameters():
            if name.startswith(("edges", "merges")):
                nn.init.uniform_(parameter, -0.1, 0.1)
            elif parameter.dim() > 1:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def draw(self, depth: int, rng: Random) -> Walk:
        """Draw a tree of nodes up to ``depth``."""
        return self._walk(depth, lambda kind, place: None, rng)

    def read(self, depth: int, tree: Node) -> Walk:
        """Make a tree that there is, to tell how probable it is."""
        return self._walk(depth, partial(_option, tree), Random())

    def change(self, depth: int, tree: Node, step: Step, rng: Random) -> Walk:
        """Make a tree with another option at one place; what it has no place for is drawn.

        Only what is drawn is among the decisions.
        """

        def known(kind: str, place: tuple[int, ...]) -> int | None:
            return step[2] if (kind, place) == step[:2] else _option(tree, kind, place)

        return self._walk(depth, known, rng, weighed=False)

    def _walk(self, depth: int, known: Known, rng: Random, *, weighed: bool = True) -> Walk:
        """Make a tree from the root down; what is known is only looked at where it is to be ``weighed``."""
        root, decisions = Spot(0, LAYER), list[Decision]()

        def decide(kind: str, spot: Spot) -> int:
            place = tuple(spot.place)
            option = known(kind, place)
            if option is None or weighed:
                logs = F.log_softmax(self.heads[kind](self.state(root, spot)), dim=-1)
                if option is None:
                    weights = logs.exp().tolist()
                    option = rng.choices(range(len(weights)), weights)[0]
                decisions.append(Decision(kind, place, logs, option))
            return option

        waiting = [root]
        while waiting:
            spot = waiting.pop()
            if spot.edge is None:
                spot.decide(EDGES[decide("edge", spot)])
            if spot.depth == depth or (spot is not root and not decide("expand", spot)):
                continue
            merge, count = _NODES[decide("node", spot)]
            spot.branch(merge, count, LAYER if spot is root else None)
            waiting.extend(reversed(spot.children))
        return Walk(root.node(), decisions)

    def state(self, root: Spot, spot: Spot) -> torch.Tensor:
        """Return what the tree says of a spot, (2 * hidden,): from its leaves up, and from the root down."""
        self._up(root)
        way = [spot]
        while way[-1].parent is not None:
            way.append(way[-1].parent)
        down = self._nothing
        for parent, child in pairwise(reversed(way)):
            down = self._down(parent, child, down)
        return torch.cat([self._up(spot)[0], down[0]])

    @property
    def _nothing(self) -> State:
        return torch.zeros(self.hidden), torch.zeros(self.hidden)

    def _up(self, spot: Spot) -> State:
        if spot.up is None:
            state = self._nothing
            if spot.children:
                below = [self._up(child) for child in spot.children]
                state = self.up_node(self.merges(_merge(spot)), spot.merge, below)
            spot.up = self._through(self.up_edge, spot, state)
        return spot.up

    def _down(self, parent: Spot, child: Spot, above: State) -> State:
        beside = [self._nothing if other is child else self._up(other) for other in parent.children]
        state = self.down_node(self.merges(_merge(parent)), parent.merge, above, beside)
        return self._through(self.down_edge, child, state)

    def _through(self, cell: nn.LSTMCell, spot: Spot, state: State) -> State:
        names = (*EDGES, LAYER)
        number = torch.tensor(len(names) if spot.edge is None else names.index(spot.edge))
        h, c = cell(self.edges(number)[None], (state[0][None], state[1][None]))
        return h[0], c[0]


class _UpCell(nn.Module):
    """A node's state by those of its branches: their sum for ``add``, side by side for ``concat``."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.x = nn.Linear(EMBEDDING, 4 * hidden)
        self.total = nn.Linear(hidden, 3 * hidden, bias=False)
        self.each = nn.Linear(hidden, hidden, bias=False)
        self.ordered = nn.Linear(2 * hidden, 3 * hidden, bias=False)
        self.forget = nn.ModuleList(nn.Linear(2 * hidden, hidden, bias=False) for _ in range(2))

    def forward(self, x: torch.Tensor, merge: str, below: Sequence[State]) -> State:
        gates, forget = self.x(x).split([self.total.out_features, self.each.out_features])
        h, c = (torch.stack(each) for each in zip(*below, strict=True))
        if merge == "add":
            gates = gates + self.total(h.sum(0))
            kept = torch.sigmoid(forget + self.each(h)) * c
        else:
            row = h.flatten()
            gates = gates + self.ordered(row)
            kept = torch.sigmoid(forget + torch.stack([layer(row) for layer in self.forget])) * c
        return _gated(gates, kept.sum(0))


class _DownCell(nn.Module):
    """A branch's state by its node's parent and the states, from below, of the branches beside it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.x = nn.Linear(EMBEDDING, 4 * hidden)
        self.above = nn.Linear(hidden, 3 * hidden, bias=False)
        self.total = nn.Linear(hidden, 3 * hidden, bias=False)
        self.ordered = nn.Linear(2 * hidden, 3 * hidden, bias=False)
        self.each = nn.Linear(2 * hidden, hidden, bias=False)
        self.parent = nn.Linear(2 * hidden, hidden, bias=False)
        self.ordered_each = nn.ModuleList(nn.Linear(3 * hidden, hidden, bias=False) for _ in range(2))
        self.ordered_parent = nn.Linear(3 * hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor, merge: str, above: State, beside: Sequence[State]) -> State:
        gates, forget = self.x(x).split([self.total.out_features, self.each.out_features])
        gates = gates + self.above(above[0])
        h, c = (torch.stack(each) for each in zip(*beside, strict=True))
        if merge == "add":
            gates = gates + self.total(h.sum(0))
            kept = torch.sigmoid(forget + self.each(torch.cat([above[0].expand_as(h), h], 1))) * c
            parent = self.parent(torch.cat([above[0], h.sum(0)]))
        else:
            row = torch.cat([above[0], h.flatten()])
            gates = gates + self.ordered(h.flatten())
            kept = torch.sigmoid(forget + torch.stack([layer(row) for layer in self.ordered_each])) * c
            parent = self.ordered_parent(row)
        return _gated(gates, kept.sum(0) + torch.sigmoid(forget + parent) * above[1])


def _gated(gates: torch.Tensor, kept: torch.Tensor) -> State:
    """An LSTM's end: what is let in is added to what was kept, and let out."""
    let_in, let_out, update = gates.chunk(3)
    c = torch.sigmoid(let_in) * torch.tanh(update) + kept
    return torch.sigmoid(let_out) * torch.tanh(c), c


def _option(tree: Node, kind: str, place: Sequence[int]) -> int | None:
    """What a tree has decided at a place; None where it has none."""
    branch = Branch(LAYER, tree)
    for number in place:
        if branch.node is None or number >= len(branch.node.branches):
            return None
        branch = branch.node.branches[number]
    if kind == "edge":
        return EDGES.index(branch.edge)
    if kind == "expand":
        return int(branch.node is not None)
    return None if branch.node is None else _NODES.index((branch.node.merge, len(branch.node.branches)))


def _merge(spot: Spot) -> torch.Tensor:
    return torch.tensor(_NODES.index((spot.merge, len(spot.children))))
