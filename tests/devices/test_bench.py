"""A bench measures modules on a device whose latencies are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netsmith.devices.bench import Bench, reference_network
from netsmith.devices.session import random_input
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.testing import FakeDevice

pytest.importorskip("onnxruntime")


def test_modules_are_measured_at_what_they_cost() -> None:
    device = FakeDevice()
    bench = Bench(device)
    network = torch.nn.Sequential(Normalize((0.5,), (0.2,)), Network(mobilenetv2((1, 16, 16), 10, 0.35)))
    cost = device.cost_ms(device.export(network, (1, 16, 16), input_type="uint8"))
    timed = bench.time(
        {"n": (network, (1, 16, 16), "uint8"), "r": (reference_network(), (3, 32, 32), "float32")}
    )
    assert timed["n"].median_ms == pytest.approx(cost, rel=1e-3)
    assert timed["r"].median_ms == pytest.approx(bench.reference_ms, rel=1e-3)


def test_figures_of_two_benches_compare_when_the_reference_is_shared() -> None:
    device = FakeDevice()
    first = Bench(device)
    subject = {"r": (reference_network(), (3, 32, 32), "float32")}
    halved = Bench(device, reference_ms=first.reference_ms / 2)
    assert halved.time(subject)["r"].median_ms == pytest.approx(first.reference_ms / 2, rel=1e-3)


def test_the_reference_and_the_input_are_always_the_same() -> None:
    state = torch.get_rng_state()
    one, two = (list(reference_network().parameters()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(random_input((3, 4, 4), "uint8"), random_input((3, 4, 4), "uint8"))
    assert random_input((3, 4, 4), "float32", 5).shape == (5, 3, 4, 4)
