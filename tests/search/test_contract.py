"""Every searcher passes the contract: of one objective and of several, free and within what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.plan import Block
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.optuna import nsga2, tpe
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Allowed, Draw, Searcher
from netsmith.search.surrogate import FIRST, SurrogateSearch
from netsmith.spaces.chain import ChainSpace
from netsmith.testing import searcher_contract
from netsmith.trial import Trial

EDGE = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(4))
SPACE = ChainSpace("chain", (), (EDGE,) * 5, (Block("head", 8, 3, 4, 4, hidden=8),))
TRIALS = FIRST + 12
MOST = 6  # of the sum of choices, a third of the space

Make = Callable[[Draw, int, Allowed, Sequence[str]], Searcher]
SEARCHERS: dict[str, Make] = {
    "random": lambda draw, seed, allowed, objectives: RandomSearch(draw, seed),
    "evolution": lambda draw, seed, allowed, objectives: Evolution(
        SPACE, draw, seed, allowed=allowed, objectives=objectives, population=10
    ),
    "local": lambda draw, seed, allowed, objectives: LocalSearch(
        SPACE, draw, seed, allowed=allowed, objectives=objectives
    ),
    "surrogate": lambda draw, seed, allowed, objectives: SurrogateSearch(
        SPACE, draw, seed, allowed=allowed, objectives=objectives
    ),
    "nsga2": lambda draw, seed, allowed, objectives: nsga2(
        SPACE, draw, seed, allowed=allowed, objectives=objectives, population=10
    ),
    "tpe": lambda draw, seed, allowed, objectives: tpe(
        SPACE, draw, seed, allowed=allowed, objectives=objectives, first=10
    ),
}
OBJECTIVES = (("error",), ("error", "latency_ms"), ("error", "latency_ms", "params"))


def small(arch: Arch) -> bool:
    return sum(arch.choices) <= MOST


def small_draw(rng: Random) -> Arch:
    return next(arch for arch in iter(lambda: SPACE.sample(rng), None) if small(arch))


def needs_optuna(name: str) -> None:
    if name in ("nsga2", "tpe"):
        pytest.importorskip("optuna")


@pytest.mark.parametrize("objectives", OBJECTIVES, ids=len)
@pytest.mark.parametrize("name", SEARCHERS)
def test_it_passes_the_contract(name: str, objectives: Sequence[str]) -> None:
    needs_optuna(name)

    def make(seed: int) -> Searcher:
        return SEARCHERS[name](SPACE.sample, seed, lambda arch: True, objectives)

    searcher_contract(make, SPACE, TRIALS, objectives=objectives)


@pytest.mark.parametrize("name", SEARCHERS)
def test_it_passes_the_contract_within_what_is_allowed(name: str) -> None:
    needs_optuna(name)

    def make(seed: int) -> Searcher:
        return SEARCHERS[name](small_draw, seed, small, OBJECTIVES[1])

    searcher_contract(make, SPACE, TRIALS, objectives=OBJECTIVES[1], allowed=small)


@pytest.mark.parametrize("name", SEARCHERS)
def test_where_one_arch_alone_is_allowed_it_asks_for_that_one(name: str) -> None:
    """It neither hangs nor fails, however often it is told of the same arch."""
    needs_optuna(name)
    only = SPACE.arch((0,) * 5)

    searcher = SEARCHERS[name](lambda rng: only, 0, lambda arch: arch == only, OBJECTIVES[1])
    for _ in range(FIRST + 8):
        assert searcher.ask() == only
        searcher.tell(Trial(only, {"error": 0.5, "latency_ms": 1.0}))
