"""DenseNet-BC (Huang et al. 2017) with grouped convolutions, as path-level transformation begins with it."""

from __future__ import annotations

import torch
from torch import nn

BOTTLENECK = 4


class DenseLayer(nn.Module):
    """What it makes stands behind what it takes: (N, inputs, H, W) -> (N, inputs + growth, H, W)."""

    def __init__(self, inputs: int, growth: int, groups: int) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, growth, 3, padding=1, groups=groups, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet(
    layers: int, growth: int, groups: int = 2, *, channels: int = 3, classes: int = 10
) -> nn.Sequential:
    """Return a network of three stages of dense layers: (N, channels, H, W) -> (N, classes).

    Half of the channels are left between stages, at half the height and width.
    """
    width = 2 * growth
    made: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    for stage in range(3):
        if stage:
            convolution = nn.Conv2d(width, width // 2, 1, bias=False)
            made += [nn.BatchNorm2d(width), nn.ReLU(), convolution, nn.AvgPool2d(2)]
            width //= 2
        for _ in range(layers):
            made.append(DenseLayer(width, growth, groups))
            width += growth
    head = (nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*made, *head, nn.Linear(width, classes))
