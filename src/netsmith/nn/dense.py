"""The modules of densely connected networks: the stem, the dense layer of a cell, and the classifier."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.condense import LearnedGroupConv2d, LearnedLinear, reordered
from netsmith.nn.layers import BatchNorm, BatchNormReLU, DepthwiseConv2d
from netsmith.plan import Block, Layer

BN_EPS, BN_MOMENTUM = 1e-5, 0.1  # of the CondenseNet release


class Dense(nn.Module):
    """What a body of layers makes of the input, behind the input: (N, C, H, W) -> (N, C + new, H, W)."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.body(x)], 1)

    def deployed(self, select: bool) -> nn.Module:
        """Return the layer with its learned group convolutions condensed."""
        if not any(isinstance(layer, LearnedGroupConv2d) for layer in self.body):
            return self
        return Dense(nn.Sequential(*reordered(iter(self.body), select))).train(self.training)


def dense(block: Block) -> Dense:
    """Return the module of a dense block.

    Raises :class:`SpaceError` where the cell has no convolution, or gives another number of channels than
    the block adds.
    """
    layers = block.layers
    widths = [layer.out_channels for layer in layers if layer.kind == "conv"]
    if not widths or widths[-1] != block.out_channels - block.in_channels:
        raise SpaceError(
            f"the cell of a dense block ends with the {block.out_channels - block.in_channels} channels that "
            f"it adds; block {block.key} has convolutions to {widths}"
        )
    return Dense(nn.Sequential(*_modules(layers, block.in_channels)))


def _modules(layers: tuple[Layer, ...], channels: int) -> Iterator[nn.Module]:
    for layer in layers:
        if layer.kind == "conv":
            yield _convolution(layer, channels)
            channels = layer.out_channels
        else:
            kind = BatchNormReLU if layer.kind == "norm+relu" else BatchNorm
            yield kind(channels, BN_EPS, BN_MOMENTUM)


def _convolution(layer: Layer, channels: int) -> nn.Conv2d:
    out, groups = layer.out_channels, layer.groups
    if layer.condense > 1:
        return LearnedGroupConv2d(channels, out, groups, layer.condense)
    if channels % groups or out % groups:
        raise SpaceError(f"{groups} groups do not divide {channels} channels in and {out} out")
    if groups == channels == out and groups > 1:
        return DepthwiseConv2d(channels, layer.kernel)
    return nn.Conv2d(channels, out, layer.kernel, padding=layer.kernel // 2, groups=groups, bias=False)


def stem(block: Block) -> nn.Conv2d:
    """Return a convolution alone, for cells that begin with the norm."""
    return nn.Conv2d(
        block.in_channels, block.out_channels, block.kernel, block.stride, block.kernel // 2, bias=False
    )


class Classifier(nn.Module):
    """Batch norm, ReLU, global average, linear: (N, C, H, W) -> (N, classes).

    Where the block's ``hidden`` is a part of the channels, the linear layer learns to do with so many.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        channels, kept = block.in_channels, block.hidden or block.in_channels
        if channels % kept:
            raise SpaceError(f"a classifier keeps one in so many of its inputs; got {kept} of {channels}")
        self.norm = BatchNormReLU(channels, BN_EPS, BN_MOMENTUM)
        self.dropout = nn.Dropout(0.0)
        self.linear = (
            nn.Linear(channels, block.out_channels)
            if kept == channels
            else LearnedLinear(channels, block.out_channels, channels // kept)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.norm(x).mean((2, 3))
        out: torch.Tensor = self.linear(self.dropout(pooled))
        return out


def average(block: Block) -> nn.AvgPool2d:
    """Return average pooling without padding."""
    return nn.AvgPool2d(block.kernel, block.stride)
