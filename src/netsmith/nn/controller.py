"""Controllers (InstaNAS, section 3.2): how likely an image should use each operation of each edge."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SettingsError
from netsmith.nn.blocks import BN_EPS, BN_MOMENTUM, BasicBlock, initialise
from netsmith.nn.layers import BatchNorm, BatchNormReLU
from netsmith.plan import Block

ControllerKind = Literal["resnet", "light"]

_LARGE = 112  # pixels from which the ResNet halves the image three times before its first block
_LIGHT_PIXELS, _LIGHT_WIDTHS = 16, (16, 32, 32)


class Controller(nn.Module):
    """The network that chooses: (N, C, H, W) normalised images -> (N, edges, operations) logits.

    The probability of an operation is the logistic function of its logit; at inference it is active from 0.5
    up, which is a logit of 0 or more. ``body`` alone gives the logits in one row an image.
    """

    def __init__(self, layers: nn.Sequential, features: int, edges: int, operations: int) -> None:
        super().__init__()
        self.shape = (edges, operations)
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, edges * operations)
        )
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out.view(-1, *self.shape)


def build_controller(
    kind: ControllerKind, input_shape: tuple[int, int, int], edges: int, operations: int
) -> Controller:
    """Return a controller for images of ``input_shape`` (C, H, W), initialised.

    ``resnet`` is that of the release: one residual block at each of 16, 32 and 64 channels; of large images
    pooled before and one more at 128. ``light`` is the paper's three convolutions with large kernels, on the
    image pooled to about 16 pixels. Raises :class:`SettingsError` on another kind.
    """
    if kind == "resnet":
        layers, features = _resnet(input_shape)
    elif kind == "light":
        layers, features = _light(input_shape)
    else:
        raise SettingsError(f"a controller is 'resnet' or 'light'; got '{kind}'")
    return Controller(layers, features, edges, operations)


class _Residual(nn.Module):
    """A basic block beside a shortcut, then ReLU: (N, C, H, W) -> (N, out, H / stride, W / stride).

    Where shapes differ the shortcut is a 1x1 convolution, as the release has for large images; its average
    pooling for small ones would not fit maps of odd sizes.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.block = BasicBlock(Block("basic", channels, out, 1, 1, kernel=3, stride=stride, hidden=out))
        self.shortcut = (
            nn.Identity()
            if (channels, stride) == (out, 1)
            else nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), BatchNorm(out, BN_EPS, BN_MOMENTUM)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.block(x))


def _resnet(input_shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    channels, *size = input_shape
    large = min(size) >= _LARGE
    widths = (16, 32, 64, 128) if large else (16, 32, 64)
    layers = [nn.AvgPool2d(2), *_conv(channels, 16, 7, 2), nn.MaxPool2d(3, 2, 1)] if large else []
    layers = layers or _conv(channels, 16, 3, 1)
    before = 16
    for width in widths:
        layers.append(_Residual(before, width, 1 if width == 16 else 2))
        before = width
    return nn.Sequential(*layers), before


def _light(input_shape: tuple[int, int, int]) -> tuple[nn.Sequential, int]:
    channels, *size = input_shape
    factor = max(1, min(size) // _LIGHT_PIXELS)
    layers: list[nn.Module] = [nn.AvgPool2d(factor)] if factor > 1 else []
    for width in _LIGHT_WIDTHS:
        layers += _conv(channels, width, 5, 2)
        channels = width
    return nn.Sequential(*layers), channels


def _conv(channels: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return [convolution, BatchNormReLU(out, BN_EPS, BN_MOMENTUM)]
