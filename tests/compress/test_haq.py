"""The agent over files comes near what brute force finds, keeps limits, and does the same twice."""

from __future__ import annotations

from itertools import chain, combinations
from random import Random

import pytest

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.floating import Effects, Layers, Outcome, within
from netsmith.compress.haq import FloatingWalk, search_floating
from netsmith.errors import BudgetError, SettingsError

SHAPES = {f"layer{i}": ConvShape(8 + i, 8 + 2 * i, 1 + 2 * (i % 2), out_size=8) for i in range(7)}


class Planted:
    """Losses and times that add up, but for more time of layers that are float32 together."""

    def __init__(self, seed: int, together: float = 0.0) -> None:
        rng = Random(seed)
        self.gains = {layer: rng.uniform(0.0, 0.1) for layer in SHAPES}
        self.times = {layer: rng.uniform(0.05, 0.3) for layer in SHAPES}
        self.together, self.asked = together, list[Layers]()

    def __call__(self, floating: Layers) -> Outcome:
        self.asked.append(floating)
        pairs = len(floating) * (len(floating) - 1) / 2
        time = 1 + sum(self.times[x] for x in floating) + self.together * pairs
        return Outcome(2 - sum(self.gains[x] for x in floating), {"latency_ms": time})


def everything() -> list[Layers]:
    return [frozenset(s) for s in chain.from_iterable(combinations(SHAPES, n) for n in range(8))]


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_near_the_best_of_all_files_within_the_limit(seed: int) -> None:
    """Within a quarter of what there is to gain: of 128 files it measures at most 38."""
    planted, limits = Planted(seed, together=0.01), {"latency_ms": 1.6}
    found = search_floating(SHAPES, planted, limits, episodes=30, seed=seed)
    assert len(planted.asked) == len(set(planted.asked)) <= 1 + 7 + 30
    assert within(planted(found), limits)
    best = min(planted(s).loss for s in everything() if within(planted(s), limits))
    assert planted(found).loss <= best + 0.25 * (2 - best)


def test_the_same_seed_measures_the_same_files() -> None:
    asked = []
    for seed in (0, 0, 1):
        planted = Planted(0)
        search_floating(SHAPES, planted, {"latency_ms": 1.4}, episodes=12, seed=seed)
        asked.append(planted.asked)
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_it_says_what_is_predicted_keeps_the_limits(seed: int) -> None:
    """Also where float32 is faster than int8, so that precision must rise in place of falling."""
    planted, rng = Planted(seed), Random(seed)
    planted.times = {layer: rng.uniform(-0.2, 0.2) for layer in SHAPES}
    least = min(planted(s).figures["latency_ms"] for s in everything())
    limits = {"latency_ms": (1 + 3 * least) / 4}
    walk = FloatingWalk(SHAPES, Effects.measured(list(SHAPES), planted), planted, limits)
    for _ in range(20):
        actions = [rng.random() for _ in SHAPES]
        assert all(0 <= value <= 1 for value in walk.state(actions[:3]))
        assert within(planted(walk.lowered(actions)), limits)
    free = FloatingWalk(SHAPES, walk.effects, planted, {"latency_ms": 9.0})
    assert free.lowered([0.25] * 3 + [0.75] * 4) == frozenset(list(SHAPES)[3:])


def test_rewards_are_losses_gained_less_what_limits_are_broken_by() -> None:
    planted = Planted(0, together=0.1)
    effects = Effects.measured(list(SHAPES), planted)
    everything_fits = FloatingWalk(SHAPES, effects, planted, {"latency_ms": 99.0})
    assert everything_fits.reward([0.75] * 7) == pytest.approx(10 * sum(planted.gains.values()))
    limit = effects.predicted(SHAPES).figures["latency_ms"]
    over = 21 * 0.1 / limit
    tight = FloatingWalk(SHAPES, effects, planted, {"latency_ms": limit})
    assert tight.reward([0.75] * 7) == pytest.approx(10 * (sum(planted.gains.values()) - over))


def test_what_cannot_be_kept_and_no_limit_at_all_are_refused() -> None:
    with pytest.raises(BudgetError, match="no choice of float32 layers"):
        search_floating(SHAPES, Planted(0), {"latency_ms": 0.5}, episodes=3, seed=0)
    with pytest.raises(SettingsError, match="at least one"):
        search_floating(SHAPES, Planted(0), {}, episodes=3, seed=0)
