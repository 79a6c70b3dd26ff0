"""The knapsack and the draws under a limit, against trying every arch."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsmith.costs import straightened
from netsmith.errors import BudgetError
from netsmith.search.additive import GRID, AdditiveCost

Rows = list[list[float]]


BENDS = (0.0, 0.03)


def on_grid(rng: Random, edges: int = 4) -> Rows:
    """Random whole costs whose range divides ``GRID``, so that rounding to the grid changes nothing."""
    rows: Rows = [[float(rng.randrange(30)) for _ in range(rng.randrange(1, 5))] for _ in range(edges)]
    spread = sum(max(row) - min(row) for row in rows)
    rows.append([0.0, 160.0 - spread])
    assert GRID % 160 == 0
    return rows


def brute(rows: Rows) -> list[tuple[int, ...]]:
    return list(product(*(range(len(row)) for row in rows)))


def total(rows: Rows, choices: tuple[int, ...]) -> float:
    return sum(row[c] for row, c in zip(rows, choices, strict=True))


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("seed", range(60))
def test_best_equals_brute_force(seed: int, bend: float) -> None:
    rng = Random(seed)
    rows, constant = on_grid(rng), float(rng.randrange(6 if bend else -5, 6 + bool(bend)))
    scores = [[-math.inf if rng.random() < 0.2 else rng.gauss(0, 1) for _ in row] for row in rows]
    costs = AdditiveCost(constant, rows, bend)
    most_sum = constant + rng.randrange(-10, 220)
    limit = most_sum + bend * max(0.0, most_sum) ** 2
    within = [c for c in brute(rows) if constant + total(rows, c) <= most_sum]
    most = max((total(scores, c) for c in within), default=-math.inf)
    if most == -math.inf:
        with pytest.raises(BudgetError, match="this space reaches from"):
            costs.best(scores, limit)
        return
    found = costs.best(scores, limit)
    assert costs.of(found) <= limit
    assert total(scores, found) == pytest.approx(most)


real = st.floats(0.001, 10.0)
real_rows = st.lists(st.lists(real, min_size=1, max_size=4), min_size=1, max_size=4)


@settings(deadline=None)
@given(real_rows, st.floats(0.0, 1.2), st.integers(0, 1000), st.floats(0.0, 2.0))
def test_any_costs_are_kept_under_the_limit_and_lose_at_most_the_grid(
    rows: Rows, share: float, seed: int, bend: float
) -> None:
    rng, costs = Random(seed), AdditiveCost(0.5, rows, bend)
    limit = costs.least + share * (costs.most - costs.least)
    scores = [[rng.random() for _ in row] for row in rows]
    found = costs.best(scores, limit)
    drawn = costs.sample(rng, limit)
    steepest = 1 + 2 * bend * straightened(costs.most, bend)
    spread = straightened(costs.most, bend) - straightened(costs.least, bend)
    slack = steepest * len(rows) * spread / GRID + 1e-9
    for choices in (found, drawn):
        assert costs.of(choices) <= limit * (1 + 1e-12) + 1e-9
    surely = max((total(scores, c) for c in brute(rows) if costs.of(c) <= limit - slack), default=-math.inf)
    assert total(scores, found) >= surely - 1e-12


@settings(deadline=None)
@given(real_rows)
def test_without_a_binding_limit_every_arch_counts(rows: Rows) -> None:
    """Rounding up to the grid must not keep the dearest arch out where the limit is its own cost."""
    costs = AdditiveCost(0.1, rows)
    dearest = costs.dearest()
    scores = [[float(j == c) for j in range(len(row))] for row, c in zip(rows, dearest, strict=True)]
    for limit in (costs.most, 2 * costs.most, math.inf):
        assert costs.best(scores, limit) == dearest


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_are_uniform_within_both_limits(seed: int) -> None:
    rng = Random(seed)
    rows = on_grid(rng, edges=5)
    costs = AdditiveCost(2.0, rows, BENDS[seed % 2])
    every = sorted(costs.of(c) for c in brute(rows))
    low, high = every[len(every) // 5], every[4 * len(every) // 5]
    within = [c for c in brute(rows) if low <= costs.of(c) <= high]
    expected = 20.0
    draws = round(expected * len(within))
    seen = Counter(costs.sample(rng, high, low) for _ in range(draws))
    assert set(seen) <= set(within)
    chi2 = sum((seen[c] - expected) ** 2 / expected for c in within)
    freedom = len(within) - 1
    assert freedom >= 8
    # Wilson-Hilferty: the cube root of chi2 / freedom is almost normal; 4 standard deviations.
    spread = 2 / (9 * freedom)
    assert abs((chi2 / freedom) ** (1 / 3) - (1 - spread)) < 4 * spread**0.5


def test_draws_keep_a_lower_bound_up_to_the_grid() -> None:
    rng = Random(0)
    rows = [[rng.random() for _ in range(6)] for _ in range(12)]
    costs = AdditiveCost(1.0, rows)
    slack = len(rows) * (costs.most - costs.least) / GRID
    low, high = costs.least + 4.0, costs.least + 4.5
    for _ in range(200):
        cost = costs.of(costs.sample(rng, high, low))
        assert low - slack <= cost <= high


def test_the_published_space_is_drawn_from_at_once() -> None:
    rng = Random(0)
    costs = AdditiveCost(1.0, [[rng.random() for _ in range(6 + (i > 5))] for i in range(21)])
    limit = costs.least + 0.1 * (costs.most - costs.least)
    archs = {costs.sample(rng, limit) for _ in range(50)}
    assert len(archs) == 50
    assert all(costs.of(choices) <= limit for choices in archs)


def test_extremes_and_sums() -> None:
    costs = AdditiveCost(1.0, [[3.0, 1.0], [2.0, 5.0, 2.0]])
    assert (costs.least, costs.most) == (4.0, 9.0)
    assert costs.cheapest() == (1, 0)
    assert costs.dearest() == (0, 1)
    assert costs.of((0, 2)) == 6.0
    bent = AdditiveCost(1.0, [[3.0, 1.0], [2.0, 5.0, 2.0]], 0.5)
    assert (bent.least, bent.most, bent.of((0, 2))) == (4 + 8, 9 + 40.5, 6 + 18)


@pytest.mark.parametrize("limit", [3.99, 0.0, -5.0, -math.inf])
def test_nothing_under_the_limit_is_an_error_that_says_what_can_be_reached(limit: float) -> None:
    costs = AdditiveCost(1.0, [[3.0, 1.0], [2.0, 5.0]])
    with pytest.raises(BudgetError, match="reaches from 4 to 9"):
        costs.best([[0.0, 0.0], [0.0, 0.0]], limit)
    with pytest.raises(BudgetError, match="reaches from 4 to 9"):
        costs.sample(Random(0), limit)


def test_an_empty_range_between_two_archs_is_an_error() -> None:
    costs = AdditiveCost(0.0, [[0.0, 10.0]])
    with pytest.raises(BudgetError, match="no arch costs between 3 and 7"):
        costs.sample(Random(0), 7.0, 3.0)
    with pytest.raises(BudgetError, match="no arch costs between 11 and 20"):
        costs.sample(Random(0), 20.0, 11.0)


def test_equal_costs_leave_everything_open() -> None:
    costs = AdditiveCost(1.0, [[2.0, 2.0], [3.0, 3.0]])
    seen = {costs.sample(Random(seed), 6.0) for seed in range(50)}
    assert len(seen) == 4
    assert costs.best([[0.0, 1.0], [1.0, 0.0]], 6.0) == (1, 0)
