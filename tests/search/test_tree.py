"""The controller finds what was planted."""

from __future__ import annotations

from random import Random

from netsmith.arch import Arch
from netsmith.search.evolution import Evolution
from netsmith.search.searcher import Searcher
from netsmith.search.tree import TreeController
from netsmith.spaces.tree import TreeSpace
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
