"""Preprocessing that is part of a network, so that an exported file needs no Netsmith beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Normalize(nn.Module):
    """Pixels to what a network learns from: (N, C, H, W) of 0..255 -> (x / 255 - mean) / std, float32.

    ``mean`` and ``std`` hold one number for each channel, on the scale 0..1. Raises
    :class:`ValueError` where their lengths differ or a deviation is not above 0.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std) or min(std) <= 0:
            raise ValueError(
                f"Normalize takes a mean and a standard deviation above 0 for each channel; "
                f"got mean {list(mean)} and std {list(std)}"
            )
        means, stds = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
        self.register_buffer("scale", (1 / (255 * stds)).float())
        self.register_buffer("shift", (-means / stds).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() * self.scale + self.shift


class Pixels(Normalize):
    """What :class:`Normalize` takes, of what it gives: the nearest whole numbers in 0..255, as float32."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.clamp(torch.round((images - self.shift) / self.scale), 0, 255)
