"""The modules of a plan's blocks. A new operation is one entry of ``BUILDERS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.dense import Classifier, average, dense, stem
from netsmith.nn.layers import BatchNorm, BatchNormReLU, BatchNormReLU6, DepthwiseConv2d
from netsmith.nn.stage import has_hooks, norm_depthwise_norm, takes_stage
from netsmith.plan import Block

BN_EPS, BN_MOMENTUM = 1e-3, 0.1  # of the ProxylessNAS release


def _batch_norm(channels: int) -> BatchNorm:
    return BatchNorm(channels, BN_EPS, BN_MOMENTUM)


def _batch_norm_relu6(channels: int) -> BatchNormReLU6:
    return BatchNormReLU6(channels, BN_EPS, BN_MOMENTUM)


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU6: (N, C, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            block.in_channels,
            block.out_channels,
            block.kernel,
            block.stride,
            block.kernel // 2,
            bias=False,
        )
        self.norm = _batch_norm_relu6(block.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.conv(x))
        return out


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al. 2018): 1x1 expand, depthwise, linear 1x1 project.

    (N, C, H, W) -> (N, out, H / stride, W / stride). The expansion is left out where the hidden
    width equals the input's; the input is added to the output where ``shortcut`` is set.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.shortcut = block.shortcut
        self.expand = (
            nn.Sequential(
                nn.Conv2d(block.in_channels, block.hidden, 1, bias=False),
                _batch_norm_relu6(block.hidden),
            )
            if block.hidden != block.in_channels
            else nn.Identity()
        )
        self.depthwise = DepthwiseConv2d(block.hidden, block.kernel, block.stride)
        self.norm = _batch_norm_relu6(block.hidden)
        self.project = nn.Sequential(
            nn.Conv2d(block.hidden, block.out_channels, 1, bias=False),
            _batch_norm(block.out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.project(self._middle(x))
        return x + out if self.shortcut else out

    def _middle(self, x: torch.Tensor) -> torch.Tensor:
        """Expansion and depthwise convolution, in one pass over memory where the kernels allow it."""
        if isinstance(self.expand, nn.Sequential):
            convolution, norm = self.expand
            x = convolution(x)
            # A tree of paths may stand in its place.
            if isinstance(self.depthwise, DepthwiseConv2d) and not has_hooks(self.depthwise):
                parts = (
                    cast(BatchNormReLU6, norm),
                    self.depthwise.weight,
                    int(self.depthwise.stride[0]),
                    self.norm,
                )
                if takes_stage(x, *parts):
                    return norm_depthwise_norm(x, *parts)
            x = norm(x)
        out: torch.Tensor = self.norm(self.depthwise(x))
        return out


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: (N, C, H, W) -> (N, out, H / stride, W / stride).

    Batch norm and ReLU stand between the two, batch norm and ReLU6 behind them, as in the InstaNAS release.
    Where ``shortcut`` is set it is that of ResNet (He et al. 2016, figure 2): the input is added behind the
    batch norm, and ReLU taken of the sum. Raises :class:`SpaceError` where shapes leave no shortcut.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        _check_shortcut(block)
        self.shortcut = block.shortcut
        sizes = block.kernel, block.stride, block.kernel // 2
        self.first = nn.Conv2d(block.in_channels, block.hidden, *sizes, bias=False)
        self.between = BatchNormReLU(block.hidden, BN_EPS, BN_MOMENTUM)
        self.second = nn.Conv2d(
            block.hidden, block.out_channels, block.kernel, padding=block.kernel // 2, bias=False
        )
        self.norm = (_batch_norm if block.shortcut else _batch_norm_relu6)(block.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.second(self.between(self.first(x))))
        return F.relu(x + out) if self.shortcut else out


class Sum(nn.Module):
    """What operations make of one input, added up (InstaNAS, section 3.1): (N, C, H, W) -> theirs.

    Where ``shortcut`` is set the input is added too. Raises :class:`SpaceError` where shapes leave none.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        _check_shortcut(block)
        self.shortcut = block.shortcut
        self.parts = nn.ModuleList(BUILDERS[part.op](part) for part in block.parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.parts
        out: torch.Tensor = first(x)
        for part in others:
            out = out + part(x)
        return x + out if self.shortcut else out


def _check_shortcut(block: Block) -> None:
    if block.shortcut and (block.stride > 1 or block.in_channels != block.out_channels):
        raise SpaceError(
            f"a shortcut needs stride 1 and as many channels out as in; got the {block.op} block {block.key}"
        )


class Head(nn.Module):
    """1x1 convolution, batch norm, ReLU6, global average, linear: (N, C, H, W) -> (N, classes)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = nn.Conv2d(block.in_channels, block.hidden, 1, bias=False)
        self.norm = _batch_norm_relu6(block.hidden)
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(block.hidden, block.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.norm(self.conv(x)).mean((2, 3))
        out: torch.Tensor = self.classifier(self.dropout(pooled))
        return out


BUILDERS: dict[str, Callable[[Block], nn.Module]] = {
    "conv": ConvBlock,
    "mbconv": MBConv,
    "basic": BasicBlock,
    "sum": Sum,
    "skip": lambda block: nn.Identity(),
    "head": Head,
    "stem": stem,
    "dense": dense,
    "pool": average,
    "classifier": Classifier,
}


def build_block(block: Block) -> nn.Module:
    """Return the module of one block, initialised. Raises :class:`SpaceError` on an unknown operation."""
    if block.op not in BUILDERS:
        raise SpaceError(f"no module is known for operation '{block.op}'; known: {list(BUILDERS)}")
    module = BUILDERS[block.op](block)
    module.apply(initialise)
    return module


def initialise(module: nn.Module) -> None:
    """He initialisation over the fan-out, as in the ProxylessNAS release."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
