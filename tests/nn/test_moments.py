"""Statistics of batches are those of all of them at once, and a norm that has them changes nothing."""

from __future__ import annotations

import torch
from torch import nn

from netsmith.nn.moments import Moments, pass_on, passes_on


def test_a_norm_gets_the_statistics_of_all_batches_and_changes_nothing() -> None:
    torch.manual_seed(0)
    batches = [3 * torch.randn(n, 4, 5, 6) + 2 for n in (2, 3)]
    moments, norm = Moments(), nn.BatchNorm2d(4).eval()
    for x in batches:
        moments.add(x)
    moments.give(norm)
    every = torch.cat(batches).transpose(0, 1).flatten(1)
    assert moments.count == 5 * 5 * 6
    torch.testing.assert_close(norm.running_mean, every.mean(1))
    torch.testing.assert_close(norm.running_var, every.var(1, correction=0))
    torch.testing.assert_close(norm(batches[0]), batches[0], rtol=1e-5, atol=1e-5)


def test_a_norm_that_passes_on_is_told_from_one_that_does_not() -> None:
    norm = nn.BatchNorm2d(3)
    assert not passes_on(norm)
    pass_on(norm)
    assert passes_on(norm)
    assert not passes_on(nn.BatchNorm2d(3, track_running_stats=False))
    assert not passes_on(nn.ReLU())
