"""The networks that path-level transformation was published with, of any size, without their cells."""

from __future__ import annotations

import torch
from torch import nn


class Bottleneck(nn.Module):
    """PyramidNet's (Han et al. 2017): norms before and behind, zeros in the shortcut for new channels."""

    def __init__(self, inputs: int, planes: int, stride: int, groups: int) -> None:
        super().__init__()
        self.more = 4 * planes - inputs
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, planes, 1, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, stride, 1, groups=groups, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, 4 * planes, 1, bias=False),
            nn.BatchNorm2d(4 * planes),
        )
        self.shortcut = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = nn.functional.pad(self.shortcut(x), (0, 0, 0, 0, 0, self.more))
        out: torch.Tensor = self.body(x) + shortcut
        return out


def pyramidnet(blocks: int, alpha: int, groups: int, classes: int = 10) -> nn.Sequential:
    """``blocks`` bottlenecks a stage, whose planes grow from 16 by ``alpha`` in equal steps."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
    inputs, planes = 16, 16.0
    for number in range(3 * blocks):
        planes += alpha / (3 * blocks)
        whole = round(planes)
        whole -= whole % groups
        stride = 2 if number in (blocks, 2 * blocks) else 1
        layers.append(Bottleneck(inputs, whole, stride, groups))
        inputs = 4 * whole
    head = [
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
    ]
    return nn.Sequential(*layers, *head)


class Dense(nn.Module):
    """A layer of DenseNet-BC (Huang et al. 2017), whose output stands behind what it takes."""

    def __init__(self, inputs: int, growth: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, groups=groups, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet(layers: int, growth: int, groups: int, classes: int = 10) -> nn.Sequential:
    """Three stages of ``layers`` dense layers, half of the channels left between them."""
    width = 2 * growth
    made: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for stage in range(3):
        if stage:
            made += [
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            width //= 2
        for _ in range(layers):
            made.append(Dense(width, growth, groups))
            width += growth
    head = [
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    ]
    return nn.Sequential(*made, *head)
