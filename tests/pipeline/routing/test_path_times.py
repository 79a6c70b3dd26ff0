"""Paths count as often as images take them; what was not timed follows those that were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netsmith.arch import Arch
from netsmith.data import ImageSet
from netsmith.devices.measure import Latency
from netsmith.pipeline.routing.path_times import PathTimes, pooled, timed, to_time, untimed

A, B, C = (Arch("s", (i,)) for i in range(3))
ARCHS = [B, A, A, C, A, B, A, A, A, A]
PREDICTED = {A: 1.0, B: 2.0, C: 4.0}


def steady(ms: float) -> Latency:
    return Latency((ms,) * 5, (1.0,) * 5, wide=False)


def times() -> PathTimes:
    return timed(untimed(ARCHS, PREDICTED), [steady(1.1), steady(2.2)])


def test_figures_are_those_of_the_images_one_by_one() -> None:
    found = times()
    each = np.array([{A: 1.1, B: 2.2, C: 4.4}[arch] for arch in ARCHS])
    assert [path.images for path in found.paths] == [7, 2, 1]
    assert found.mean_ms == pytest.approx(each.mean())
    assert found.error_ms == pytest.approx(each.std(ddof=1) / np.sqrt(10))
    assert found.predicted_ms == pytest.approx(each.mean() / 1.1)
    assert found.timed_share == pytest.approx(0.9)
    for q in (0.1, 0.5, 0.7, 0.71, 0.9, 0.95, 1.0):
        assert found.quantile_ms(q) == pytest.approx(np.quantile(each, q, method="inverted_cdf"))
    assert found.spread()["interval"] == pytest.approx([found.mean_ms] * 2)
    assert found.spread()["rounds"] == 5
    assert not found.wide


def test_an_image_of_each_path_is_timed() -> None:
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 8, 8).contiguous()
    images = ImageSet(pixels, torch.zeros(10, dtype=torch.int64), ("it",))
    chosen = to_time(untimed(ARCHS, PREDICTED), ARCHS, images)
    assert [(x.shape, int(x[0, 0, 0, 0])) for x in chosen] == [((1, 1, 8, 8), place) for place in (1, 0, 3)]


def test_two_measurements_of_the_same_paths_count_together() -> None:
    slower = timed(untimed(ARCHS, PREDICTED), [steady(1.3), steady(2.6)])
    both = pooled(times(), slower)
    assert both.mean_ms == pytest.approx((times().mean_ms + slower.mean_ms) / 2)
    assert both.timed_share == times().timed_share
