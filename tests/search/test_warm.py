"""A warm start shifts draws towards what a score likes, and a score of minus infinity is no error."""

from __future__ import annotations

import math
import statistics
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.published.nas_bench_201 import CellSpace
from netsmith.search.random import RandomSearch
from netsmith.search.warm import best_drawn
from netsmith.testing import searcher_contract

SPACE = CellSpace()


def score(arch: Arch) -> float:
    return float(sum(arch.choices)) if arch.choices[0] else -math.inf


def test_of_each_pool_the_best_is_drawn() -> None:
    rng, again = Random(0), Random(0)
    draw = best_drawn(SPACE.sample, score, 7)
    for _ in range(20):
        pool = [SPACE.sample(again) for _ in range(7)]
        assert draw(rng) == max(pool, key=score)


@pytest.mark.parametrize("pool", [1, 4, 16])
def test_the_mean_score_is_that_of_the_greatest_of_so_many(pool: int) -> None:
    """Of draws uniform in a score the greatest of k lies at k / (k + 1)."""

    def first(arch: Arch) -> float:
        places = zip(arch.choices, SPACE.sizes, strict=True)
        place = 0
        for choice, size in places:
            place = place * size + choice
        return place / SPACE.count()

    rng, draw = Random(1), best_drawn(SPACE.sample, first, pool)
    mean = statistics.mean(first(draw(rng)) for _ in range(2000))
    assert mean == pytest.approx(pool / (pool + 1), abs=0.02)


def test_where_every_score_is_minus_infinity_it_still_draws() -> None:
    assert best_drawn(SPACE.sample, lambda arch: -math.inf, 3)(Random(0)) == SPACE.sample(Random(0))


def test_a_searcher_with_it_passes_the_contract() -> None:
    searcher_contract(lambda seed: RandomSearch(best_drawn(SPACE.sample, score, 5), seed), SPACE)
