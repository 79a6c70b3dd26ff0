"""The float32 layers that are chosen are those that brute force finds, and limits are kept as measured."""

from __future__ import annotations

from itertools import chain, combinations
from random import Random

import pytest

from netsmith.compress.floating import Effects, Layers, Outcome, choose_floating, fastest_floating, within
from netsmith.errors import BudgetError, CompressionError

LAYERS = [f"layer{i}" for i in range(8)]


class Planted:
    """Losses and latencies of layers that add up, and, with ``together``, more latency for each pair."""

    def __init__(self, seed: int, together: float = 0.0) -> None:
        rng = Random(seed)
        self.gains = {layer: rng.uniform(-0.02, 0.1) for layer in LAYERS}
        self.times = {layer: rng.uniform(-0.05, 0.3) for layer in LAYERS}
        self.bytes = {layer: rng.randrange(100, 900) for layer in LAYERS}
        self.together, self.asked = together, list[Layers]()

    def __call__(self, floating: Layers) -> Outcome:
        self.asked.append(floating)
        pairs = len(floating) * (len(floating) - 1) / 2
        figures = {
            "latency_ms": 1 + sum(self.times[x] for x in floating) + self.together * pairs,
            "size_bytes": 1000 + sum(self.bytes[x] for x in floating),
        }
        return Outcome(2 - sum(self.gains[x] for x in floating), figures)


def everything() -> list[Layers]:
    subsets = chain.from_iterable(combinations(LAYERS, n) for n in range(len(LAYERS) + 1))
    return [frozenset(subset) for subset in subsets]


@pytest.mark.parametrize("seed", range(5))
def test_the_programme_is_brute_force_under_two_limits(seed: int) -> None:
    planted = Planted(seed)
    effects = Effects.measured(LAYERS, planted)
    for limits in ({"latency_ms": 1.3}, {"latency_ms": 1.2, "size_bytes": 2500.0}, {}):
        best = min(planted(s).loss for s in everything() if within(planted(s), limits))
        found = planted(effects.best(limits))
        assert within(found, limits)
        assert found.loss == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_where_layers_cost_more_together_the_limit_is_kept_as_measured(seed: int) -> None:
    limits = {"latency_ms": 1.25}
    planted = Planted(seed, together=0.03)
    steps = list(choose_floating(LAYERS, planted, limits, most=30))
    kept = [outcome for _, outcome in steps if within(outcome, limits)]
    true = min(planted(s).loss for s in everything() if within(planted(s), limits))
    none = planted(frozenset()).loss
    found = min(outcome.loss for outcome in kept)
    assert none - found >= 0.9 * (none - true)


def test_nothing_is_measured_twice_and_no_more_than_was_allowed() -> None:
    planted = Planted(0, together=0.02)
    steps = list(choose_floating(LAYERS, planted, {"latency_ms": 1.2}, most=4))
    assert len(planted.asked) == len(set(planted.asked)) == len(steps) <= 1 + len(LAYERS) + 4
    assert [floating for floating, _ in steps] == planted.asked


def test_float_layers_that_make_a_file_faster_are_found_where_int8_is_over_the_limit() -> None:
    planted = Planted(1)
    planted.times = dict.fromkeys(LAYERS, 0.1) | {"layer3": -0.3}
    steps = list(choose_floating(LAYERS, planted, {"latency_ms": 0.9}, most=4))
    kept = [floating for floating, outcome in steps if within(outcome, {"latency_ms": 0.9})]
    assert kept
    assert all("layer3" in floating for floating in kept)


def test_limits_out_of_reach_and_no_layers_are_errors() -> None:
    with pytest.raises(BudgetError, match=r"in int8 the network takes latency_ms 1 of 0.2"):
        list(choose_floating(LAYERS, Planted(0), {"latency_ms": 0.2}, most=4))
    with pytest.raises(CompressionError, match="no convolution or linear layer"):
        list(choose_floating([], Planted(0), {}, most=4))


@pytest.mark.parametrize("seed", range(5))
def test_without_limits_the_fastest_that_is_accurate_enough_is_found(seed: int) -> None:
    """By brute force over 256 files, where what is accurate enough is said by the loss."""
    planted = Planted(seed)
    most = planted(frozenset()).loss - 0.5 * sum(max(0.0, gain) for gain in planted.gains.values())

    def accurate(floating: Layers) -> bool:
        return planted(floating).loss <= most

    steps = list(fastest_floating(LAYERS, planted, accurate, most=40))
    assert len({floating for floating, _ in steps}) == len(steps) <= 1 + 8 + 40 + 1
    found = min(outcome.figures["latency_ms"] for floating, outcome in steps if accurate(floating))
    best = min(planted(s).figures["latency_ms"] for s in everything() if accurate(s))
    assert found == pytest.approx(best)


def test_int8_throughout_ends_the_search_where_it_is_accurate_and_float32_where_nothing_else_is() -> None:
    planted = Planted(0)
    assert [f for f, _ in fastest_floating(LAYERS, planted, lambda f: True, most=9)] == [frozenset()]
    nothing = [f for f, _ in fastest_floating(LAYERS, planted, lambda f: len(f) == 8, most=9)]
    assert nothing[-1] == frozenset(LAYERS)
