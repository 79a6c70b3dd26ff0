"""Scores of channels are what they say: sums of weights, and the loss's change to first order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.compress.channels import Group
from netsmith.compress.dependencies import channels_of
from netsmith.compress.importance import best_of, magnitude, taylor

SHAPE = (3, 16, 16)
Build = Callable[..., nn.Module]


def test_magnitude_is_the_sum_of_all_that_reads_a_channel(network: Build) -> None:
    module = network("dense")
    channels = channels_of(module, SHAPE)
    first, second = module.first[0].weight.detach().abs(), module.second[0].weight.detach().abs()
    last = module.classifier.weight.detach().abs()
    parts = [first.sum((0, 2, 3)), second[:, :8].sum((0, 2, 3)), last[:, 6:14].sum(0)]
    expected = sum(part / part.mean() for part in parts)
    torch.testing.assert_close(magnitude(module, channels)["stem.0"], expected.double(), rtol=1e-5, atol=1e-5)


def test_magnitude_of_flattened_and_grouped_channels(network: Build) -> None:
    module = network("vgg")
    weight = module.hidden.weight.detach().abs().view(20, 16, 16).sum((0, 2))
    found = magnitude(module, channels_of(module, SHAPE))["features.4.0"]
    torch.testing.assert_close(found, (weight / weight.mean()).double(), rtol=1e-5, atol=1e-5)
    module = network("grouped")
    weight = torch.cat([w.abs().sum((0, 2, 3)) for w in module.grouped[0].weight.detach().split(3)])
    found = magnitude(module, channels_of(module, SHAPE))["stem.0"]
    torch.testing.assert_close(found, (weight / weight.mean()).double(), rtol=1e-5, atol=1e-5)


def test_taylor_is_what_the_loss_changes_as_a_channel_fades(network: Build) -> None:
    """d loss / d factor of all that reads channel c, by finite differences."""
    module = network("residual").double()
    channels = channels_of(module.float(), SHAPE)
    module = module.double()
    x, y = torch.rand(6, *SHAPE, dtype=torch.float64), torch.arange(6) % 5
    found = taylor(module, channels, [(x, y)])
    group = next(group for group in channels.groups if group.name == "stem.0")
    readers = [module.first[0][0], module.second[0][0], module.classifier]
    for channel in (0, 3, 7):
        losses = []
        for factor in (1 + 1e-5, 1 - 1e-5):
            with torch.no_grad():
                for reader in readers:
                    reader.weight[:, channel] *= factor
                losses.append(float(F.cross_entropy(module(x), y)))
                for reader in readers:
                    reader.weight[:, channel] /= factor
        slope = (losses[0] - losses[1]) / 2e-5
        assert float(found["stem.0"][channel]) == pytest.approx(slope**2, rel=1e-3, abs=1e-12)
    assert not module.training
    assert group.channels == 8


def test_the_best_are_ascending_and_as_many_of_each_part() -> None:
    scores = torch.tensor([5.0, 1.0, 4.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    assert best_of(Group("g", 8, 1, 0, ()), scores, 3) == [4, 5, 6]
    assert best_of(Group("g", 8, 2, 0, ()), scores, 4) == [0, 2, 4, 5]
    assert best_of(Group("g", 8, 2, 0, ()), scores, 5) == [0, 2, 4, 5]
    assert best_of(Group("g", 8, 4, 0, ()), scores, 1) == [0, 2, 4, 6]
