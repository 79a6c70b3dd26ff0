"""The moving average of weights, against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netsmith.nn.average import Average


def test_the_average_is_its_closed_form():
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average, decay, expected = Average(module, 0.6), 0.6, module[0].weight.detach().double()
    for step in range(20):
        with torch.no_grad():
            module[0].weight.fill_(float(step))
            module[1].running_mean.fill_(float(step))
            module[1].num_batches_tracked += 1
        average.update(module, step)
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * step
    assert average.module[0].weight.item() == pytest.approx(expected.item(), abs=1e-4)
    assert average.module[1].running_mean.item() == pytest.approx(expected.item(), abs=0.05)
    assert average.module[1].num_batches_tracked == 20
    # Decay 0.6 long after the start: the mean lags d / (1 - d) = 1.5 steps behind a line.
    assert average.module[0].weight.item() == pytest.approx(19 - 1.5, abs=0.05)


def test_without_decay_the_average_is_a_copy():
    module = nn.Linear(2, 2)
    average = Average(module, 0.0)
    with torch.no_grad():
        module.weight.fill_(3.0)
    average.update(module, 0)
    assert not torch.equal(average.module.weight, module.weight)
    average.finish(module)
    assert torch.equal(average.module.weight, module.weight)
    assert not average.module.weight.requires_grad
