"""Simulated accelerators by hand, and against what was published of the hardware they stand in for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from netsmith.compress.accelerators import (
    BISMO_CLOUD,
    BISMO_EDGE,
    BITFUSION,
    Accelerator,
    BitSerial,
    ConvShape,
    Roofline,
    fused_bits,
)
from netsmith.errors import CompressionError

TABLES = Path(__file__).parents[3] / "shared" / "data" / "luts"
HAQ = TABLES / "haq_qmobilenetv2_imagenet100_batch16.npy"
APQ = TABLES / "apq_BitFusion_b1.json"
CPU = Roofline(macs_per_s=1e9, bytes_per_s=1e9, pj_per_mac=2.0, pj_per_byte=100.0)
SHAPES = [
    ConvShape(3, 32, 3, 2, out_size=112),
    ConvShape(32, 32, 3, 1, groups=32, out_size=56),
    ConvShape(96, 24, out_size=28),
    ConvShape(64, 64, 3, groups=4, out_size=14),
    ConvShape(1280, 100),
]


def mobilenet_v1() -> list[ConvShape]:
    layers, width, size = [ConvShape(3, 32, 3, 2, out_size=112)], 32, 112
    blocks = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]
    for wider, stride in blocks:
        size //= stride
        layers.append(ConvShape(width, width, 3, stride, width, size))
        layers.append(ConvShape(width, wider, out_size=size))
        width = wider
    return [*layers, ConvShape(1024, 1000)]


def mobilenet_v2() -> list[ConvShape]:
    layers, width, size = [ConvShape(3, 32, 3, 2, out_size=112)], 32, 112
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expand, wider, blocks, first_stride in stages:
        for block in range(blocks):
            stride, inner = (first_stride if block == 0 else 1), width * expand
            if expand > 1:
                layers.append(ConvShape(width, inner, out_size=size))
            size //= stride
            layers.append(ConvShape(inner, inner, 3, stride, inner, size))
            layers.append(ConvShape(inner, wider, out_size=size))
            width = wider
    return [*layers, ConvShape(320, 1280, out_size=7), ConvShape(1280, 1000)]


def whole(accelerator: Accelerator, layers: list[ConvShape], bits: int) -> float:
    """HAQ's rows of one precision: first and last layer have 8 bits."""
    inner = sum(accelerator.latency_ms(layer, bits, bits) for layer in layers[1:-1])
    return inner + sum(accelerator.latency_ms(layer, 8, 8) for layer in (layers[0], layers[-1]))


def test_shapes_count_what_a_convolution_has() -> None:
    layer = ConvShape(8, 12, 3, 2, groups=4, out_size=5)
    assert (layer.depth, layer.weights, layer.inputs, layer.outputs) == (18, 216, 800, 300)
    assert layer.macs == 5400
    assert sum(layer.macs for layer in mobilenet_v1()) == pytest.approx(569e6, rel=0.01)
    assert sum(layer.macs for layer in mobilenet_v2()) == pytest.approx(301e6, rel=0.01)
    for wrong in ((0, 8), (8, 0), (8, 8, 0)):
        with pytest.raises(CompressionError, match="sizes of 1 and more"):
            ConvShape(*wrong)
    with pytest.raises(CompressionError, match="groups divide"):
        ConvShape(8, 9, groups=2)


def test_a_bit_serial_layer_by_hand() -> None:
    """16 x 16 outputs of 20 channels, 100 deep, on 8 x 8 PEs 32 deep: 32 x 3 tiles, 4 passes a bit pair."""
    engine = BitSerial(pes=8, depth=32, fetch_bits=16, batch=2, clock_hz=1e6)
    layer = ConvShape(100, 20, out_size=16)
    assert engine.cycles(layer, 8, 2) == 2 * 32 * 3 * 4 * 16
    assert (
        engine.cycles(layer, 1, 8) == 2 * 256 * 4 * 2 * 8
    )  # activations: 256 rows of 4 x 32 bits at 16 a cycle
    assert engine.latency_ms(layer, 1, 8) == pytest.approx(32768 / 1e6 * 1e3)
    # A linear layer: the batch is two rows, and 1000 rows of weights of 2 x 32 bits are what takes longest.
    assert engine.cycles(ConvShape(64, 1000), 8, 1) == 1000 * 2 * 2 * 8
    # Depthwise: 8 channels at once, 8 x 9 deep, which takes 3 passes; 3 such matrices for 24 channels.
    assert engine.cycles(ConvShape(24, 24, 3, groups=24, out_size=4), 1, 1) == 2 * 3 * max(
        2 * 3, 16 * 3 * 2, 8 * 6
    )


def test_energy_of_a_bit_serial_layer_by_hand() -> None:
    engine = BitSerial(pes=8, depth=32, fetch_bits=16, batch=2, binary_tops_per_watt=1.0)
    layer = ConvShape(4, 2, out_size=3)  # 72 MACs, 8 weights, 36 inputs
    assert engine.energy_mj(layer, 3, 2) == pytest.approx(
        1e-9 * (2 * 72 * 2 * 6 * 1.0) + 1e-9 * 15 * (8 * 3 + 36 * 2 * 2)
    )


def test_a_fused_layer_by_hand() -> None:
    """On 16 x 32 units a 1x1 convolution of 64 -> 64 at 4 x 4 bits: 4 products a unit fill the 16 rows."""
    layer = ConvShape(64, 64, out_size=32)
    memory = (64 * 64 * 4 + 64 * 1024 * 4 + 64 * 1024 * 64) / 192  # weights fit, and so nothing is read twice
    assert BITFUSION._busy(layer, 4, 4) == 1024 * 1 * 2
    assert BITFUSION._busy(layer, 8, 8) == 1024 * 4 * 2
    assert BITFUSION.latency_ms(layer, 4, 4) == pytest.approx(memory / 5e5)
    assert BITFUSION.energy_mj(layer, 4, 4) == pytest.approx((2048 * 1400 + memory * 192 * 16) * 1e-9)
    depthwise = ConvShape(32, 32, 7, groups=32, out_size=56)
    assert BITFUSION.latency_ms(depthwise, 8, 8) == pytest.approx((32 * 56**2 * 49 / 8 + 20 * 32) / 5e5)
    assert [fused_bits(bits) for bits in range(1, 9)] == [2, 2, 4, 4, 8, 8, 8, 8]


def test_what_does_not_fit_into_the_buffers_is_read_again() -> None:
    """8 tiles of weights and 2 of activations: reading activations 8 times is less than weights twice."""
    layer = ConvShape(512, 512, out_size=8)
    weights, inputs, outputs = 512 * 512 * 8, 512 * 64 * 8, 512 * 64 * 64
    assert weights / (4 * 65536) == 8
    assert inputs / (4 * 32768) == 2
    assert BITFUSION._moved(layer, 8, 8) == outputs + weights + 8 * inputs < outputs + 2 * weights + inputs


def test_a_roofline_by_hand() -> None:
    layer = ConvShape(10, 20, out_size=4)  # 3200 MACs, 200 weights, 160 inputs, 320 outputs
    assert CPU.latency_ms(layer, 8, 8) == pytest.approx(3200 / 1e9 * 1e3)
    assert CPU.latency_ms(layer, 2, 2) == CPU.latency_ms(layer, 8, 8)
    assert CPU.energy_mj(layer, 4, 8) == pytest.approx((3200 * 2 + (100 + 480) * 100) * 1e-9)
    fusing = Roofline(1e9, 1e6, 2.0, 100.0, bit_products=True)
    assert fusing.latency_ms(layer, 4, 8) == pytest.approx(580 / 1e6 * 1e3)
    assert fusing.energy_mj(layer, 4, 8) == pytest.approx((1600 * 2 + 580 * 100) * 1e-9)


@pytest.mark.parametrize("accelerator", [BISMO_EDGE, BISMO_CLOUD, BITFUSION, CPU])
@pytest.mark.parametrize("shape", SHAPES)
def test_more_bits_never_cost_less(accelerator: Accelerator, shape: ConvShape) -> None:
    for figure in (accelerator.latency_ms, accelerator.energy_mj):
        grid = np.array([[figure(shape, w, a) for a in range(1, 9)] for w in range(1, 9)])
        assert (grid > 0).all()
        assert (np.diff(grid, axis=0) >= 0).all()
        assert (np.diff(grid, axis=1) >= 0).all()
    assert accelerator.energy_mj(shape, 8, 8) > accelerator.energy_mj(shape, 2, 2)
    with pytest.raises(CompressionError, match="got 9"):
        accelerator.latency_ms(shape, 9, 8)


def test_the_same_policy_is_not_best_everywhere() -> None:
    """HAQ, section 4: fewer bits of weights help where weights are fetched, of activations where they are."""
    early, late = ConvShape(32, 16, out_size=112), ConvShape(960, 320, out_size=7)
    saved_early = [
        BISMO_CLOUD.latency_ms(early, 8, 8) - BISMO_CLOUD.latency_ms(early, *b) for b in ((4, 8), (8, 4))
    ]
    assert saved_early[0] == 0 < saved_early[1]
    narrow_weights, narrow_inputs = (BISMO_EDGE.latency_ms(late, *bits) for bits in ((2, 8), (8, 2)))
    assert narrow_weights < narrow_inputs


# HAQ, section 4: milliseconds of one precision, 4, 5, 6 and 8 bits.
PUBLISHED = [
    (BISMO_EDGE, mobilenet_v1, (45.5, 57.7, 70.4, 96.2), 0.08),
    (BISMO_EDGE, mobilenet_v2, (52.1, 66.9, 82.3, 115.8), 0.08),
    (BISMO_CLOUD, mobilenet_v1, (57.4, 77.5, 99.7, 151.1), 0.13),
    (BISMO_CLOUD, mobilenet_v2, (74.0, 99.1, 127.0, 189.8), 0.13),
]


@pytest.mark.parametrize(("accelerator", "network", "latencies", "tolerance"), PUBLISHED)
def test_whole_networks_take_about_what_was_published(accelerator, network, latencies, tolerance) -> None:  # type: ignore[no-untyped-def]
    for bits, published in zip((4, 5, 6, 8), latencies, strict=True):
        assert whole(accelerator, network(), bits) == pytest.approx(published, rel=tolerance)


@pytest.mark.skipif(not HAQ.exists(), reason="the published tables are not at ../shared/data/luts")
def test_cycles_are_about_those_of_haqs_table() -> None:
    table = np.load(HAQ, allow_pickle=False).astype(float)
    layers, bits = mobilenet_v2(), range(1, 9)
    mine = np.array([[[BISMO_CLOUD.cycles(layer, w, a) for a in bits] for w in bits] for layer in layers])
    ratios = mine / table
    assert np.quantile(ratios, [0.1, 0.5, 0.9]) == pytest.approx([0.853, 0.978, 1.0], abs=0.002)
    assert spearmanr(mine.ravel(), table.ravel())[0] > 0.998
    assert mine[:, 7, 7].sum() == pytest.approx(table[:, 7, 7].sum(), rel=0.02)


@pytest.mark.skipif(not APQ.exists(), reason="the published tables are not at ../shared/data/luts")
def test_latencies_and_energies_are_about_those_of_apqs_table() -> None:
    rows = []
    for key, figures in json.loads(APQ.read_text()).items():
        shape, _, bits = key.partition("-W")
        if bits:
            into, out, size, kernel, stride, _, groups = (int(n) for n in shape.strip("()").split(","))
            layer = ConvShape(into, out, kernel, stride, groups, size // stride)
            w, a = (int(n) for n in bits.split("A"))
            mine = BITFUSION.latency_ms(layer, w, a), BITFUSION.energy_mj(layer, w, a)
            rows.append((*mine, figures["latency"], figures["energy"]))
    latency, energy, published_latency, published_energy = np.array(rows).T
    assert len(rows) == 6567
    assert np.quantile(latency / published_latency, [0.02, 0.5, 0.98]) == pytest.approx(
        [0.78, 0.98, 1.05], abs=0.01
    )
    assert np.quantile(energy / published_energy, [0.02, 0.5, 0.98]) == pytest.approx(
        [0.59, 0.99, 1.22], abs=0.02
    )
    assert spearmanr(latency, published_latency)[0] > 0.997
    assert spearmanr(energy, published_energy)[0] > 0.98
