"""Each image takes the time of its own path, and a device that cannot route says who can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.devices.routing import routing
from netsmith.errors import DeviceError
from netsmith.export.routed import RoutedParts, write_routed
from netsmith.testing import FakeDevice

pytest.importorskip("onnxruntime")

SHAPE = (1, 8, 8)


def convolutions(number: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(number)))


def two_paths() -> bytes:
    """A bright image takes ten convolutions, a dark one none."""
    torch.manual_seed(0)
    controller = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1))
    with torch.no_grad():
        controller[2].weight.fill_(1.0)
        controller[2].bias.fill_(-0.5)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    stem = nn.Conv2d(1, 4, 3, padding=1)
    parts = RoutedParts(nn.Identity(), controller, stem, [[convolutions(10)]], [True], head)
    return write_routed(parts, SHAPE, paths=[[[True]]])


def test_an_image_costs_what_its_path_does() -> None:
    dark, bright = (np.full((1, *SHAPE), value, np.float32) for value in (0.0, 1.0))
    device = FakeDevice()
    timed, beside = Bench(device).time_images({"it": (two_paths(), [dark, bright])}, {"same": two_paths()})
    short, long = (latency.median_ms for latency in timed["it"])
    convolution_ms = 0.002 + 4 * 4 * 9 * 64 / 2e7
    # A dark image asks whether its path is the common one, whether any operation is on, and finds none.
    assert long - short == pytest.approx(10 * convolution_ms - 0.003, rel=0.01)
    assert beside["same"].median_ms == pytest.approx(long, rel=0.01)  # of random pixels, half bright


def test_images_go_through_one_by_one_where_the_file_takes_one() -> None:
    images = np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32)
    images[::2] *= 0.5
    device = routing(parse("onnxruntime"))
    whole = device.prepare(two_paths(), images)()
    (choices,) = device.prepare_each(two_paths(), [images], "choices")
    singles = [run() for run in device.prepare_each(two_paths(), list(images[:, None]))]
    assert whole.shape == (5, 3)
    np.testing.assert_array_equal(whole, np.concatenate(singles))
    assert choices().ravel().tolist() == (images.mean((1, 2, 3)) >= 0.5).tolist()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime:precision=int8", "torch"])
def test_other_devices_refuse(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    with pytest.raises(DeviceError, match="such as onnxruntime:threads=1"):
        routing(parse(name))
