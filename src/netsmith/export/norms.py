"""Batch norms for a network that has lost them: what its convolutions give, and norms that change nothing."""

from __future__ import annotations

import torch
from torch import nn


class Moments:
    """Sums up what a convolution gives, until it is asked for the norm that changes nothing."""

    def __init__(self, layer: nn.Module) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())
        self.hook = layer.register_forward_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.shape[-2:] != (1, 1):
            values = output.double().transpose(0, 1).flatten(1)
            self.count += values.shape[1]
            self.sum = self.sum + values.sum(1)
            self.squares = self.squares + values.square().sum(1)

    def norm(self) -> nn.BatchNorm2d | None:
        """Return the norm; None where nothing was given that has one."""
        self.hook.remove()
        if not self.count:
            return None
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0)
        norm = nn.BatchNorm2d(len(mean))
        norm.running_mean, norm.running_var = mean.float(), variance.float()
        norm.weight.data = (variance + norm.eps).sqrt().float()
        norm.bias.data = mean.float()
        return norm.eval()


def convolution_of(layer: nn.Module) -> nn.Module:
    """Return the convolution of a layer that may have its padding before it, or the layer."""
    return layer[-1] if isinstance(layer, nn.Sequential) else layer
