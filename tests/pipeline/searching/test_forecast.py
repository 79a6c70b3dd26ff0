"""What is far over a limit is told by what was measured of others."""

from __future__ import annotations

import random

from netsmith.pipeline.searching.forecast import LEAST, Forecast

COSTS = (0.02, 0.3, 0.05)


def took(features: list[float]) -> float:
    return 0.1 + sum(cost * feature for cost, feature in zip(COSTS, features, strict=True))


def test_a_sum_over_features_is_found_again() -> None:
    rng, forecast = random.Random(0), Forecast()
    for _ in range(20):
        features = [float(rng.randrange(8)) for _ in COSTS]
        forecast.add(features, took(features))
    for _ in range(50):
        features = [float(rng.randrange(8)) for _ in COSTS]
        assert forecast.over(features, 0.9 * took(features))
        assert not forecast.over(features, 1.1 * took(features))


def test_of_few_networks_and_without_features_nothing_is_said() -> None:
    forecast = Forecast()
    for number in range(LEAST):
        assert not forecast.over([9.0], 0.001)
        forecast.add([float(number)], 1.0 + number)
        forecast.add([float(number)], 1.0 + number)
        forecast.add([], 5.0)
    assert forecast.over([9.0], 5.0)
    assert not forecast.over([], 0.001)
