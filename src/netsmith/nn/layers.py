"""The layers that Netsmith's blocks are made of.

Each keeps the parameters of the PyTorch layer it stands for, under the same names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class DepthwiseConv2d(nn.Conv2d):
    """A convolution with one filter a channel, padding ``kernel // 2``, no bias: (N, C, H, W) -> same C."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


class BatchNormReLU6(nn.BatchNorm2d):
    """Batch normalisation followed by min(max(x, 0), 6): (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(super().forward(x))
