"""Evolution beats random draws where there is something to learn, and stays within what is allowed."""

from __future__ import annotations

from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.plan import Block
from netsmith.search.evolution import Evolution
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial

EDGES, OPTIONS = 12, 6


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    edge = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(OPTIONS))
    return ChainSpace("chain", (), (edge,) * EDGES, (Block("head", 8, 3, 4, 4, hidden=8),))


def planted(seed: int) -> list[list[float]]:
    rng = Random(1000 + seed)
    return [[rng.random() for _ in range(OPTIONS)] for _ in range(EDGES)]


def error_of(losses: list[list[float]], arch: Arch) -> float:
    return sum(row[c] for row, c in zip(losses, arch.choices, strict=True)) / EDGES


def best_of(searcher: Searcher, losses: list[list[float]], trials: int) -> float:
    best = 1.0
    for _ in range(trials):
        arch = searcher.ask()
        error = error_of(losses, arch)
        best = min(best, error)
        searcher.tell(Trial(arch, {"error": error}))
    return best


@pytest.mark.parametrize("seed", range(10))
def test_it_beats_random_search_at_equal_evaluations(space: ChainSpace, seed: int) -> None:
    losses = planted(seed)
    evolved = best_of(Evolution(space, space.sample, seed), losses, 300)
    drawn = best_of(RandomSearch(space.sample, seed), losses, 300)
    least = sum(min(row) for row in losses) / EDGES
    assert evolved - least < 0.6 * (drawn - least)


def test_it_asks_only_for_what_is_allowed(space: ChainSpace) -> None:
    def allowed(arch: Arch) -> bool:
        return sum(arch.choices) <= 24

    def draw(rng: Random) -> Arch:
        arch = space.sample(rng)
        while not allowed(arch):
            arch = space.sample(rng)
        return arch

    search = Evolution(space, draw, 0, allowed=allowed, population=8)
    for _ in range(200):
        arch = search.ask()
        assert allowed(arch)
        search.tell(Trial(arch, {"error": 1 - sum(arch.choices) / 60}))  # the best lie at the edge


def test_where_no_child_is_allowed_it_draws(space: ChainSpace) -> None:
    only = space.arch((0,) * EDGES)
    search = Evolution(space, lambda rng: only, 0, allowed=lambda arch: arch == only, population=2)
    for _ in range(10):
        arch = search.ask()
        assert arch == only
        search.tell(Trial(arch, {"error": 0.5}))


def test_the_oldest_leaves_however_good(space: ChainSpace) -> None:
    """With one member and no crossover, every child is a mutant of the youngest."""
    search = Evolution(space, space.sample, 0, population=1, tournament=1, crossover=0.0)
    good, bad = space.arch((0,) * EDGES), space.arch((5,) * EDGES)
    search.ask()
    search.tell(Trial(good, {"error": 0.0}))
    search.tell(Trial(bad, {"error": 0.9}))
    for _ in range(20):
        child = search.ask()
        assert sum(a != b for a, b in zip(child.choices, bad.choices, strict=True)) < EDGES
        assert child.choices.count(5) > child.choices.count(0)


def test_failed_trials_are_never_parents_while_there_are_others(space: ChainSpace) -> None:
    search = Evolution(space, space.sample, 0, population=4, tournament=4, crossover=0.0)
    good, failed = space.arch((0,) * EDGES), space.arch((5,) * EDGES)
    for _ in range(4):
        search.ask()
    search.tell(Trial(good, {"error": 0.9}))
    for reason, figures in (("failed", {"error": 0.0}), ("", {}), ("over the budget", {})):
        search.tell(Trial(failed, figures, reason))
    for _ in range(20):
        child = search.ask()
        assert child.choices.count(0) > child.choices.count(5)
