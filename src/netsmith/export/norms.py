"""Batch norms for a network that has lost them: what its convolutions give, and norms that change nothing."""

from __future__ import annotations

import torch
from torch import nn

from netsmith.nn.moments import Moments


class Unfolding:
    """Sums up what a convolution gives, until it is asked for the norm that changes nothing."""

    def __init__(self, layer: nn.Module) -> None:
        self._moments = Moments()
        self._hook = layer.register_forward_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.shape[-2:] != (1, 1):
            self._channels = output.shape[1]
            self._moments.add(output)

    def norm(self) -> nn.BatchNorm2d | None:
        """Return the norm; None where nothing was given that has one."""
        self._hook.remove()
        if not self._moments.count:
            return None
        norm = nn.BatchNorm2d(self._channels)
        self._moments.give(norm)
        return norm.eval()


def convolution_of(layer: nn.Module) -> nn.Module:
    """Return the convolution of a layer that may have its padding before it, or the layer."""
    return layer[-1] if isinstance(layer, nn.Sequential) else layer
