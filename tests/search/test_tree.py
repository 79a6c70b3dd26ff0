"""The controller finds what was planted."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.search.evolution import Evolution
from netsmith.search.searcher import Searcher
from netsmith.search.tree import TreeController
from netsmith.spaces.tree import LAYER, Branch, Node, TreeSpace
from netsmith.testing import searcher_contract
from netsmith.trial import Trial

SPACE = TreeSpace("base", 2)


def controller(seed: int, **settings: object) -> TreeController:
    return TreeController(SPACE, SPACE.sample, seed, hidden=16, head=32, **settings)  # type: ignore[arg-type]


def error(arch: Arch) -> float:
    """Wide roots are good, separable operations better, and other operations bad."""
    tree = SPACE.tree(arch)
    if tree is None:
        return 0.9
    worth = 0.1 * len(tree.branches)
    for branch in tree.branches:
        if branch.node is not None:
            edges = [inner.edge for inner in branch.node.branches]
            worth += sum(0.08 if edge == "separable 5" else -0.02 for edge in edges)
    return 0.95 - max(worth, 0.0) * 0.7


def best_of(searcher: Searcher, trials: int) -> list[float]:
    found = []
    for _ in range(trials):
        arch = searcher.ask()
        found.append(error(arch))
        searcher.tell(Trial(arch, {"error": found[-1]}))
    return found


def test_it_keeps_the_contract_and_what_it_is_allowed() -> None:
    def allowed(arch: Arch) -> bool:
        return sum(arch.choices) < 20

    def draw(rng: Random) -> Arch:
        return next(arch for arch in iter(lambda: SPACE.sample(rng), None) if allowed(arch))

    searcher_contract(
        lambda seed: TreeController(SPACE, draw, seed, hidden=8, head=8, batch=4, allowed=allowed),
        SPACE, 12, allowed=allowed,
    )  # fmt: skip


def test_it_learns_what_was_planted_and_is_ahead_of_random_trees() -> None:
    trials = 100
    learned = best_of(controller(0, rate=0.015), trials)
    rng = Random(0)
    at_random = [error(SPACE.sample(rng)) for _ in range(trials)]
    assert sum(learned[-20:]) / 20 < min(at_random[:50]), (
        "what it ends with is on average better than the best of fifty"
    )
    assert min(learned) < min(at_random)
    evolved = best_of(Evolution(SPACE, SPACE.sample, 0), trials)
    assert min(learned) <= min(evolved) + 0.02


def test_after_the_first_batch_trees_are_steps_from_the_best() -> None:
    searcher = controller(0, batch=5, best=2, near=1.0)
    known: dict[Arch, float] = {}
    for count in range(40):
        arch = searcher.ask()
        if count >= 5:
            best = sorted(known, key=known.__getitem__)[:2]
            assert min(map(partial(apart, arch), best)) <= 1
        known[arch] = error(arch)
        searcher.tell(Trial(arch, {"error": known[arch]}))


def apart(one: Arch, other: Arch) -> int:
    """How many decisions on places that both trees have are different, none below one that is."""
    return _apart(SPACE.tree(one), SPACE.tree(other))


def _apart(one: Node | None, other: Node | None) -> int:
    if one is None or other is None:
        return int((one is None) != (other is None))
    pairs = zip(one.branches, other.branches, strict=False)
    changed = (one.merge, len(one.branches)) != (other.merge, len(other.branches))
    return changed + sum((a.edge != b.edge) + _apart(a.node, b.node) for a, b in pairs)


@pytest.mark.parametrize(("left", "again"), [(0.0, False), (1.0, True)])
def test_what_made_a_tree_worse_is_avoided_where_another_is_the_best(
    left: float, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netsmith.search.tree._FAILED", left)
    searcher = controller(0, batch=1, best=1, near=1.0, rate=0.0)
    node = Node("concat", (Branch("conv 1"), Branch("conv 1")))
    one, other = (
        SPACE.arch_of(Node("add", (Branch(LAYER, node), Branch(LAYER, behind)))) for behind in (None, node)
    )
    searcher.tell(Trial(one, {"error": 0.5}))
    worse = set()
    for _ in range(8):
        arch = searcher.ask()
        worse.add(searcher._steps[arch][1])
        searcher.tell(Trial(arch, {"error": 0.6}))
    searcher.tell(Trial(other, {"error": 0.4}))
    taken = {searcher._steps[searcher.ask()][1] for _ in range(200)}
    assert bool(taken & worse) == again
