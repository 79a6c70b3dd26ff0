"""Searchers for a front find a planted one, and those that learn in fewer trials than random draws."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise, product
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.pareto import hypervolume
from netsmith.plan import Block
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.optuna import nsga2, tpe
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.search.surrogate import SurrogateSearch
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial

EDGES, OPTIONS = 6, 4
BOTH = ("error", "cost")
EDGE = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(OPTIONS))
SPACE = ChainSpace("chain", (), (EDGE,) * EDGES, (Block("head", 8, 3, 4, 4, hidden=8),))


def figures(choices: tuple[int, ...]) -> dict[str, float]:
    """The later an edge the more its option is worth, and the earlier the more it costs; neighbours clash."""
    worth = sum((i + 1) * c for i, c in enumerate(choices))
    clashes = sum(a == b == 3 for a, b in pairwise(choices))
    cost = sum((EDGES - i) * c * c for i, c in enumerate(choices))
    return {"error": (80.0 - worth + 4 * clashes) / 100, "cost": 10.0 + cost}


EVERY = [tuple(figures(choices).values()) for choices in product(range(OPTIONS), repeat=EDGES)]
REFERENCE = (0.8, 200.0)
WHOLE = hypervolume(EVERY, REFERENCE)


def trials_until(searcher: Searcher, share: float, most: int = 400) -> int:
    """Distinct archs asked for until the front found has so large a share of the true one's hyper-volume."""
    points: dict[Arch, tuple[float, ...]] = {}
    for _ in range(3 * most):
        arch = searcher.ask()
        found = figures(arch.choices)
        searcher.tell(Trial(arch, found))
        points[arch] = tuple(found.values())
        if len(points) >= most or hypervolume(list(points.values()), REFERENCE) >= share * WHOLE:
            break
    return len(points)


def median(make: Callable[[int], Searcher], share: float = 0.97) -> float:
    return statistics.median(trials_until(make(seed), share) for seed in range(5))


@pytest.fixture(scope="module")
def drawn() -> float:
    return median(lambda seed: RandomSearch(SPACE.sample, seed))


def test_evolution_finds_the_front(drawn: float) -> None:
    assert median(lambda seed: Evolution(SPACE, SPACE.sample, seed, objectives=BOTH)) < 0.7 * drawn


def test_local_search_finds_the_front(drawn: float) -> None:
    assert median(lambda seed: LocalSearch(SPACE, SPACE.sample, seed, objectives=BOTH)) < 0.7 * drawn


def test_nsga2_finds_the_front(drawn: float) -> None:
    pytest.importorskip("optuna")
    assert median(lambda seed: nsga2(SPACE, SPACE.sample, seed, objectives=BOTH)) < 0.8 * drawn


def test_tpe_finds_better_archs_than_draws() -> None:
    pytest.importorskip("optuna")

    def least(searcher: Searcher) -> float:
        found = []
        for _ in range(100):
            arch = searcher.ask()
            found.append(figures(arch.choices)["error"])
            searcher.tell(Trial(arch, {"error": found[-1]}))
        return min(found)

    guided = [least(tpe(SPACE, SPACE.sample, seed)) for seed in range(5)]
    drawn = [least(RandomSearch(SPACE.sample, seed)) for seed in range(5)]
    assert statistics.mean(guided) < statistics.mean(drawn) - 0.02


def test_the_surrogate_needs_a_fraction(drawn: float) -> None:
    assert median(lambda seed: SurrogateSearch(SPACE, SPACE.sample, seed, objectives=BOTH)) < 0.3 * drawn


def test_what_is_known_need_not_be_learnt() -> None:
    """The cost follows no rule, so that it is of use only where it is told."""

    def cost(arch: Arch) -> dict[str, float]:
        return {"cost": 10.0 + 190.0 * Random(arch.digest).random()}

    def error_and_cost(arch: Arch) -> dict[str, float]:
        return {"error": figures(arch.choices)["error"], **cost(arch)}

    def missed(searcher: Searcher) -> float:
        """The hyper-volume that 60 trials leave out."""
        points = []
        for _ in range(60):
            arch = searcher.ask()
            searcher.tell(Trial(arch, error_and_cost(arch)))
            points.append(tuple(error_and_cost(arch).values()))
        return whole - hypervolume(points, REFERENCE)

    archs = map(SPACE.arch, product(range(OPTIONS), repeat=EDGES))
    whole = hypervolume([tuple(error_and_cost(arch).values()) for arch in archs], REFERENCE)
    blind = [missed(SurrogateSearch(SPACE, SPACE.sample, seed, objectives=BOTH)) for seed in range(3)]
    told = [
        missed(SurrogateSearch(SPACE, SPACE.sample, seed, objectives=BOTH, known=cost)) for seed in range(3)
    ]
    assert sum(told) < 0.5 * sum(blind)
