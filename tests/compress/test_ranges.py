"""Limits by brute force and by what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from netsmith.compress.quantizers import affine, symmetric
from netsmith.compress.ranges import activation_range, divergence, percentile_limits, weight_limits
from netsmith.errors import CompressionError


def weights(seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(weight: Tensor, limit: float, bits: int) -> float:
    return float((weight - symmetric(torch.tensor(limit), bits).nearest(weight)).square().sum())


def test_the_greatest_magnitude_of_all_or_of_each_channel() -> None:
    weight = torch.tensor([[[1.0, -4.0]], [[0.5, 0.25]]])
    assert weight_limits(weight, 8, "max").tolist() == [4.0]
    assert weight_limits(weight, 8, "max", per_channel=True).tolist() == [4.0, 0.5]


def test_the_percentile_leaves_out_the_share_above() -> None:
    rows = torch.arange(1, 1001, dtype=torch.float32).reshape(1, -1)
    assert percentile_limits(rows, 0.999).tolist() == [999.0]
    assert percentile_limits(rows, 0.5).tolist() == [500.0]
    assert percentile_limits(rows, 1.0).tolist() == [1000.0]
    sparse = torch.zeros(1, 5000)
    sparse[0, 7] = 3.0
    assert percentile_limits(sparse, 0.999).tolist() == [3.0]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_least_squared_error_is_found(bits: int) -> None:
    """By brute force over a grid twenty times as fine: nothing there is noticeably better."""
    weight = weights(1, 12, 30)
    (limit,) = weight_limits(weight, bits, "mse").tolist()
    most = float(weight.abs().max())
    finest = min(error(weight, most * share / 2000, bits) for share in range(1, 2001))
    assert error(weight, limit, bits) <= 1.1 * finest
    assert error(weight, limit, bits) <= error(weight, most, bits)


def test_the_limit_of_a_normal_variable_is_the_published_one() -> None:
    """ACIQ (Banner et al. 2019) and Lloyd-Max: with 4 bits a normal tensor is best clipped near 2.6 sigma."""
    (limit,) = weight_limits(weights(2, 200000), 4, "mse").tolist()
    assert limit == pytest.approx(2.5, abs=0.2)


def test_each_channel_is_limited_as_if_it_were_alone() -> None:
    weight = weights(3, 5, 4, 3, 3) * torch.tensor([1.0, 10, 0.1, 3, 0]).reshape(-1, 1, 1, 1)
    for method in ("max", "percentile", "mse", "kl", "haq"):
        together = weight_limits(weight, 3, method, per_channel=True)
        alone = [weight_limits(channel, 3, method) for channel in weight]
        assert torch.equal(together, torch.cat(alone)), method


def plain_divergence(counts: list[int], kept: int, levels: int) -> float:
    """Migacz's procedure, written out bin by bin."""
    p = [float(count) for count in counts[:kept]]
    q = [0.0] * kept
    for level in range(levels):
        inside = range(level * kept // levels, (level + 1) * kept // levels)
        filled = [bin for bin in inside if counts[bin]]
        for bin in filled:
            q[bin] = sum(counts[b] for b in inside) / len(filled)
    p[-1] += sum(counts[kept:])
    total = 0.0
    for a, b in zip(p, q, strict=True):
        smooth = (1 - 1e-4) * b / max(sum(q), 1) + 1e-4 / kept
        total += a / sum(p) * math.log(a / sum(p) / smooth) if a else 0.0
    return total


def test_the_divergence_is_that_of_the_plain_procedure() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(0, 6, 24)
        counts[-1] = 1
        for levels in (2, 4, 7):
            for kept in range(levels, 25):
                expected = plain_divergence(counts.tolist(), kept, levels)
                assert divergence(counts, kept, levels) == pytest.approx(expected)


def test_divergence_clips_what_is_far_out_and_nothing_of_a_uniform_tensor() -> None:
    body = torch.rand(10000, generator=torch.Generator().manual_seed(0))
    (limit,) = weight_limits(torch.cat([body, torch.tensor([40.0])]), 4, "kl").tolist()
    assert limit < 4
    assert weight_limits(body, 4, "kl").item() == pytest.approx(1.0, abs=0.05)


def test_haq_clips_by_divergence_below_five_bits_only() -> None:
    weight = weights(5, 30000)
    for bits in range(2, 9):
        method = "kl" if bits < 5 else "max"
        assert torch.equal(weight_limits(weight, bits), weight_limits(weight, bits, method))
    assert weight_limits(weight, 4).item() < weight.abs().max()


def test_the_zeros_that_a_relu_leaves_do_not_move_the_limit() -> None:
    some = weights(8, 5000).abs()
    zeros = torch.zeros(20000)
    for bits in (2, 3, 4):
        _, alone = activation_range(some, bits, "kl")
        _, among = activation_range(torch.cat([some, zeros]), bits, "kl")
        assert alone == among


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "kl", "haq"])
def test_activations_without_negatives_begin_at_0(method: str) -> None:
    x = weights(6, 4, 8, 5, 5).relu()
    low, high = activation_range(x, 4, method)
    assert low == 0
    assert 0 < high <= x.max()
    signed_low, signed_high = activation_range(weights(6, 4, 8, 5, 5), 4, method)
    assert signed_low < 0 < signed_high


def test_the_range_of_activations_has_the_least_squared_error() -> None:
    x = weights(7, 2000).relu()
    _, high = activation_range(x, 2, "mse")

    def missed(limit: float) -> float:
        levels = affine(torch.tensor(0.0), torch.tensor(limit), 2)
        return float((x - levels.nearest(x)).square().sum())

    finest = min(missed(float(x.max()) * share / 1000) for share in range(1, 1001))
    assert missed(float(high)) <= 1.02 * finest


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(CompressionError, match="got 'mes'; did you mean 'mse'"):
        weight_limits(torch.ones(3), 4, "mes")
    with pytest.raises(CompressionError, match="finite"):
        weight_limits(torch.tensor([1.0, float("nan")]), 4)
    with pytest.raises(CompressionError, match="at least one"):
        weight_limits(torch.ones(0), 4)
    with pytest.raises(CompressionError, match=r"2\.\.8"):
        weight_limits(torch.ones(3), 1)
