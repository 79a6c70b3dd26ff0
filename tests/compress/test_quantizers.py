"""Levels by their closed forms, codebooks by the exact optimum, gradients by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netsmith.compress.quantizers import (
    Levels,
    affine,
    channelwise,
    clustered,
    quantized_activation,
    quantized_weight,
    shared_weight,
    symmetric,
)
from netsmith.errors import CompressionError


def every_level(levels: Levels) -> Tensor:
    return levels.values(torch.arange(levels.low, levels.high + 1))


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_have_the_published_levels(bits: int) -> None:
    """s = c / (2^(b-1) - 1), and as many levels on either side of 0."""
    levels = every_level(symmetric(torch.tensor(1.5), bits))
    most = 2 ** (bits - 1) - 1
    expected = torch.arange(-most, most + 1) * (1.5 / most)
    assert torch.allclose(levels, expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_activations_have_two_to_the_bits_levels_from_0_up(bits: int) -> None:
    levels = every_level(affine(torch.tensor(0.0), torch.tensor(6.0), bits))
    assert torch.allclose(levels, torch.linspace(0, 6, 2**bits))


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(2, 8), low=st.floats(-8, 0), high=st.floats(0.01, 8), seed=st.integers(0, 99))
def test_the_nearest_of_all_levels_is_taken(bits: int, low: float, high: float, seed: int) -> None:
    """By brute force over every level, whether symmetric or not."""
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 5
    for levels in (symmetric(torch.tensor(high), bits), affine(torch.tensor(low), torch.tensor(high), bits)):
        every = every_level(levels)
        distances = (x[:, None] - every).abs()
        got = (x - levels.nearest(x)).abs()
        assert torch.allclose(got, distances.amin(1), atol=1e-5)
        assert bool((every == 0).any())
        assert len(every) <= 2**bits


def test_each_channel_has_its_own_scale() -> None:
    weight = torch.tensor([[0.4, -1.0], [30.0, 100.0]])
    levels = symmetric(channelwise(torch.tensor([1.0, 100.0]), weight), 3)
    assert torch.allclose(levels.nearest(weight), torch.tensor([[1 / 3, -1.0], [100 / 3, 100.0]]))
    assert levels.codes(weight).tolist() == [[1, -3], [1, 3]]
    filters = torch.randn(4, 2, 3, 3)
    assert channelwise(torch.ones(4), filters).shape == (4, 1, 1, 1)
    assert channelwise(torch.ones(1), filters).shape == (1, 1, 1, 1)


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(3)
    assert symmetric(torch.tensor(0.0), 4).nearest(zeros).tolist() == [0, 0, 0]
    assert affine(torch.tensor(0.0), torch.tensor(0.0), 4).nearest(zeros).tolist() == [0, 0, 0]


def test_gradients_of_weights_pass_even_where_they_are_clipped() -> None:
    weight = torch.tensor([0.2, -0.7, 5.0], requires_grad=True)
    levels = symmetric(torch.tensor(1.0), 2)
    quantized = quantized_weight(weight, levels)
    assert quantized.tolist() == [0.0, -1.0, 1.0]
    (quantized * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0, 3.0]


def test_gradients_of_clipped_activations_go_to_the_range() -> None:
    """PACT: dy/dc is 1 where x is over c, and dy/dx is 0 there; likewise below the lower end."""
    x = torch.tensor([-2.0, -0.5, 0.6, 9.0, 7.0], requires_grad=True)
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    y = quantized_activation(x, low, high, 2)
    assert torch.allclose(y, torch.tensor([-4 / 3, 0.0, 0.0, 8 / 3, 8 / 3]), atol=2)  # levels below
    every = every_level(affine(low.detach(), high.detach(), 2))
    assert all(bool(torch.isclose(every, value).any()) for value in y.detach())
    (y * torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])).sum().backward()
    assert x.grad is not None
    assert low.grad is not None
    assert high.grad is not None
    assert x.grad.tolist() == [0.0, 10.0, 100.0, 0.0, 0.0]
    assert (low.grad.item(), high.grad.item()) == (1.0, 11000.0)


def least_spread(values: list[float], clusters: int) -> float:
    """By brute force: in one dimension the best clusters are stretches of the sorted values."""
    ordered = np.sort(np.asarray(values))
    found = []
    for cuts in combinations(range(1, len(ordered)), clusters - 1):
        parts = np.split(ordered, cuts)
        found.append(sum(float(((part - part.mean()) ** 2).sum()) for part in parts))
    return min(found)


@pytest.mark.parametrize("bits", [1, 2])
def test_codebooks_come_near_the_best_there_is(bits: int) -> None:
    excess = []
    for seed in range(10):
        weight = torch.randn(18, generator=torch.Generator().manual_seed(seed))
        spread = float((weight - clustered(weight, bits).values()).square().sum())
        best = least_spread(weight.tolist(), 2**bits)
        assert spread >= best - 1e-6
        excess.append(spread / best)
    assert np.median(excess) < 1.001
    assert max(excess) < 1.2


def test_planted_clusters_are_found_exactly() -> None:
    centres = torch.tensor([-2.0, -0.5, 0.25, 3.0])
    labels = torch.randint(0, 4, (8, 5, 3), generator=torch.Generator().manual_seed(0))
    noise = 0.01 * torch.randn(8, 5, 3, generator=torch.Generator().manual_seed(1))
    book = clustered(centres[labels] + noise, 2)
    assert torch.equal(book.codes.long(), labels)
    for code in range(4):
        assert book.centroids[code] == pytest.approx(
            float((centres[labels] + noise)[labels == code].mean()), abs=1e-6
        )


def test_every_weight_has_its_nearest_centroid_and_every_centroid_is_the_mean_of_its_weights() -> None:
    weight = torch.randn(40, 25, generator=torch.Generator().manual_seed(2))
    for bits in (1, 3, 5, 8):
        book = clustered(weight, bits)
        assert len(book.centroids) <= 2**bits
        distances = (weight[..., None] - book.centroids).abs()
        assert torch.allclose((weight - book.values()).abs(), distances.amin(-1), atol=1e-6)
        assert torch.allclose(
            shared_weight(weight, book.codes, len(book.centroids)), book.values(), atol=1e-5
        )


def test_more_bits_are_nearer_and_few_values_are_exact() -> None:
    weight = torch.randn(3000, generator=torch.Generator().manual_seed(3))
    spreads = [float((weight - clustered(weight, bits).values()).square().mean()) for bits in range(1, 9)]
    assert spreads == sorted(spreads, reverse=True)
    # Lloyd's optimum of a normal variable at two levels is +-sqrt(2 / pi), with an error of 1 - 2 / pi.
    assert spreads[0] == pytest.approx(1 - 2 / np.pi, abs=0.02)
    few = torch.tensor([[1.0, -3.0], [1.0, 7.5]])
    assert torch.equal(clustered(few, 2).values(), few)


def test_codebooks_of_many_weights_are_the_same_for_the_same_seed() -> None:
    weight = torch.randn(50000, generator=torch.Generator().manual_seed(4))
    first, again = clustered(weight, 6, seed=1), clustered(weight, 6, seed=1)
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.codes, again.codes)


def test_a_gradient_step_moves_centroids_as_replacing_clusters_by_their_means_does() -> None:
    """HAQ's fine-tuning: step every weight by its own gradient, then replace each cluster by its mean."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(6, 4, generator=generator)
    codes = torch.randint(0, 3, (6, 4), generator=generator)
    pull = torch.randn(6, 4, generator=generator)
    shared = shared_weight(weight, codes, 3)
    published = shared_weight(shared - 0.1 * pull, codes, 3)
    learned = weight.clone().requires_grad_()
    (shared_weight(learned, codes, 3) * pull).sum().backward()
    assert learned.grad is not None
    assert torch.allclose(shared_weight(weight - 0.1 * learned.grad, codes, 3), published, atol=1e-6)


def test_what_cannot_be_is_refused() -> None:
    one = torch.tensor(1.0)
    for bits in (0, 9, 2.0, True):
        with pytest.raises(CompressionError, match=r"1\.\.8; got"):
            affine(-one, one, bits)  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match=r"2\.\.8; got 1"):
        symmetric(one, 1)
    with pytest.raises(CompressionError, match="holds 0"):
        affine(one, 2 * one, 4)
