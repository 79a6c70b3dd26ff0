"""The layers that Netsmith's blocks are made of.

Each keeps the parameters of the PyTorch layer it stands for, under the same names, and computes the same.
On a CPU, for float32 in channels-last memory, compiled kernels do the work; everywhere else, and
whenever the module is traced or exported, PyTorch's own operations do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.nn.depthwise import depthwise_conv2d, takes_depthwise
from netsmith.nn.norm import NONE, RELU, RELU6, batch_norm, takes_norm


class DepthwiseConv2d(nn.Conv2d):
    """A convolution with one filter a channel, padding ``kernel // 2``, no bias: (N, C, H, W) -> same C."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return convolve_depthwise(x, self.weight, int(self.stride[0]))


def convolve_depthwise(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolve each channel of x (N, C, H, W) with its filter of weight (C, 1, K, K), padding ``K // 2``."""
    if takes_depthwise(x, weight, stride):
        return depthwise_conv2d(x, weight, stride)
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=weight.shape[0])


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation: (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return batch_norm(self, x, NONE) if takes_norm(self, x) else super().forward(x)


class BatchNormReLU6(nn.BatchNorm2d):
    """Batch normalisation followed by min(max(x, 0), 6): (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return batch_norm(self, x, RELU6) if takes_norm(self, x) else F.relu6(super().forward(x))


class BatchNormReLU(nn.BatchNorm2d):
    """Batch normalisation followed by max(x, 0): (N, C, H, W) -> (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return batch_norm(self, x, RELU) if takes_norm(self, x) else F.relu(super().forward(x))
