"""What is derived is the most probable within the limit, by trying every arch."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
import torch

from netsmith.errors import BudgetError
from netsmith.plan import Block
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.derive import OpenPaths, derive
from netsmith.supernet.paths import Paths

SIZES = (3, 4, 2, 3)


def instance(seed: int) -> tuple[Paths, AdditiveCost]:
    """Random probabilities; whole costs that span 20, a divisor of the grid, so that nothing is rounded."""
    edges = tuple(
        tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(n)) for n in SIZES
    )
    paths = Paths(ChainSpace("chain", (), edges, ()), torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths.alpha.normal_(0, 1.5, generator=torch.Generator().manual_seed(seed))
    rng = Random(seed)
    rows = [[0.0, 5.0, *(float(rng.randrange(1, 6)) for _ in range(n - 2))] for n in SIZES]
    return paths, AdditiveCost(3.0, rows)


def log_p(paths: Paths, choices: tuple[int, ...]) -> float:
    return float(paths.log_probability(paths.space.arch(choices)).detach())


@pytest.mark.parametrize("seed", range(20))
def test_the_first_is_the_most_probable_within_the_limit(seed: int) -> None:
    paths, costs = instance(seed)
    paths.prune(0.05)
    every = [c for c in product(*map(range, SIZES)) if all(paths.open[i, j] for i, j in enumerate(c))]
    limit = min(map(costs.of, every)) + Random(seed).randrange(8)
    archs = derive(paths, costs, limit, 10, seed)
    best = max(log_p(paths, c) for c in every if costs.of(c) <= limit)
    assert log_p(paths, archs[0].choices) == pytest.approx(best, abs=1e-5)
    found = [log_p(paths, arch.choices) for arch in archs]
    assert found == sorted(found, reverse=True)
    assert len(set(archs)) == len(archs) <= 10
    for arch in archs:
        assert costs.of(arch.choices) <= limit
        assert all(paths.open[i, c] for i, c in enumerate(arch.choices))


def test_without_a_binding_limit_it_is_the_published_answer() -> None:
    paths, costs = instance(0)
    assert derive(paths, costs, costs.most, 1, 0) == [paths.most_probable()]


def test_the_same_seed_derives_the_same() -> None:
    paths, costs = instance(1)
    assert derive(paths, costs, 12.0, 8, 3) == derive(paths, costs, 12.0, 8, 3)


def test_a_limit_that_one_arch_keeps_gives_that_arch() -> None:
    paths, costs = instance(2)
    assert [costs.of(a.choices) for a in derive(paths, costs, 3.0, 5, 0)] == [3.0]


def test_a_limit_out_of_reach_of_the_open_paths_is_an_error() -> None:
    paths, costs = instance(3)
    with pytest.raises(BudgetError, match="no arch costs at most 2"):
        derive(paths, costs, 2.0, 5, 0)
    with torch.no_grad():
        for i, row in enumerate(costs.edges):
            paths.alpha[i, int(row.argmax())] = 20.0
    paths.prune(0.5)  # what is open now costs most
    with pytest.raises(BudgetError, match="no arch costs at most 15"):
        derive(paths, costs, 15.0, 5, 0)


@pytest.mark.parametrize("seed", range(10))
def test_a_least_use_is_kept_where_it_can_be(seed: int) -> None:
    paths, costs = instance(seed)
    every = [c for c in product(*map(range, SIZES)) if 0.8 * 14 <= costs.of(c) <= 14]
    archs = derive(paths, costs, 14.0, 6, seed, least_use=0.8)
    assert all(0.8 * 14 <= costs.of(arch.choices) <= 14 for arch in archs)
    assert log_p(paths, archs[0].choices) == pytest.approx(max(log_p(paths, c) for c in every), abs=1e-5)
    assert derive(paths, costs, 3.0, 1, seed, least_use=1.0)[0].choices == costs.cheapest()
    beyond = derive(paths, costs, 2 * costs.most, 1, seed, least_use=0.9)
    assert beyond == [paths.most_probable()]


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_of_open_paths_within_the_limits(seed: int) -> None:
    paths, costs = instance(seed)
    paths.prune(0.25)
    every = [c for c in product(*map(range, SIZES)) if all(paths.open[i, j] for i, j in enumerate(c))]
    assert len(every) < len(list(product(*map(range, SIZES))))
    open_paths, rng = OpenPaths(paths, costs), Random(seed)
    prices = sorted(map(costs.of, every))
    low, high = prices[len(prices) // 4], prices[3 * len(prices) // 4]
    within = {c for c in every if low <= costs.of(c) <= high}
    assert {open_paths.draw(rng, high + 0.5, low - 0.5).choices for _ in range(60 * len(within))} == within
    assert costs.of(open_paths.cheapest().choices) == prices[0]
    for choices in product(*map(range, SIZES)):
        assert (paths.space.arch(choices) in open_paths) == (choices in every)
    with pytest.raises(BudgetError):
        open_paths.draw(rng, prices[0] - 1)
