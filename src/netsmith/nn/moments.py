"""Means and variances of channels, and batch norms that have them and change nothing."""

from __future__ import annotations

import torch
from torch import nn


class Moments:
    """Sums up the values of channels, (N, C, H, W) at a time, in double precision."""

    def __init__(self) -> None:
        self.count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: torch.Tensor) -> None:
        """Take in one batch."""
        values = x.detach().double().transpose(0, 1).flatten(1)
        self.count += values.shape[1]
        self._sum = self._sum + values.sum(1)
        self._squares = self._squares + values.square().sum(1)

    def give(self, norm: nn.BatchNorm2d) -> None:
        """Make them the running statistics of a norm, in place, that changes nothing when evaluated."""
        mean = self._sum / self.count
        variance = (self._squares / self.count - mean.square()).clamp_min(0)
        norm.running_mean, norm.running_var = mean.to(norm.weight), variance.to(norm.weight)
        pass_on(norm)


def pass_on(norm: nn.BatchNorm2d) -> None:
    """Give a batch norm the scale and shift that undo its running statistics, in place."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    with torch.no_grad():
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
        norm.bias.copy_(norm.running_mean)


def passes_on(norm: nn.Module) -> bool:
    """Whether a batch norm undoes its own statistics, so that it changes nothing when evaluated."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return False
    scale = torch.sqrt(norm.running_var + norm.eps)
    return torch.equal(norm.weight, scale) and torch.equal(norm.bias, norm.running_mean)
