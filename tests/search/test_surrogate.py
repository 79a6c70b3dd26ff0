"""Search by a surrogate finds a planted optimum in far fewer trials than evolution."""

from __future__ import annotations

import math
from random import Random

import pytest

from netsmith.plan import Block
from netsmith.search.evolution import Evolution
from netsmith.search.searcher import Searcher
from netsmith.search.surrogate import FIRST, SurrogateSearch
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial

EDGES, OPTIONS = 6, 4


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    edge = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(OPTIONS))
    return ChainSpace("chain", (), (edge,) * EDGES, (Block("head", 8, 3, 4, 4, hidden=8),))


def queries(search: Searcher, seed: int, most: int = 150) -> int:
    """Trials until the planted optimum is asked for; decisions act together in pairs."""
    rng = Random(100 + seed)
    losses = [[rng.random() for _ in range(OPTIONS)] for _ in range(EDGES)]
    pairs = [[rng.random() for _ in range(OPTIONS**2)] for _ in range(EDGES - 1)]

    def error(choices: tuple[int, ...]) -> float:
        together = (row[a * OPTIONS + b] for row, a, b in zip(pairs, choices, choices[1:], strict=False))
        alone = (row[c] for row, c in zip(losses, choices, strict=True))
        return 0.1 + sum(alone) + 0.3 * sum(together)

    every = [()]
    for _ in range(EDGES):
        every = [(*head, option) for head in every for option in range(OPTIONS)]
    best = min(every, key=error)
    for number in range(1, most + 1):
        arch = search.ask()
        if arch.choices == best:
            return number
        search.tell(Trial(arch, {"error": error(arch.choices)}))
    return most


def test_it_needs_fewer_trials_than_evolution(space: ChainSpace) -> None:
    found = sum(queries(SurrogateSearch(space, space.sample, seed), seed) for seed in range(4))
    evolved = sum(queries(Evolution(space, space.sample, seed), seed) for seed in range(4))
    assert found < 0.7 * evolved


def test_no_arch_is_asked_twice_and_only_what_is_allowed(space: ChainSpace) -> None:
    search = SurrogateSearch(
        space, lambda rng: space.arch((0, *space.sample(rng).choices[1:])), 0,
        allowed=lambda arch: arch.choices[0] == 0,
    )  # fmt: skip
    asked = []
    for _ in range(FIRST + 15):
        asked.append(search.ask())
        search.tell(Trial(asked[-1], {"error": 1.0 + sum(asked[-1].choices)}))
    assert len(set(asked)) == len(asked)
    assert all(arch.choices[0] == 0 for arch in asked)


def test_trials_that_failed_count_as_the_worst(space: ChainSpace) -> None:
    search = SurrogateSearch(space, space.sample, 0)
    for number in range(FIRST + 5):
        arch = search.ask()
        failed = number % 2 == 0
        search.tell(Trial(arch, {} if failed else {"error": 0.5}, "it failed" if failed else ""))
    assert math.isfinite(sum(search.ask().choices))
