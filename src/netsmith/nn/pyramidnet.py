"""PyramidNet (Han et al. 2017) with grouped convolutions, as path-level transformation begins with it."""

from __future__ import annotations

import math

import torch
from torch import nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """Norms before and behind convolutions; what comes in is added to as many channels, new ones stand alone.

    (N, inputs, H, W) -> (N, 4 * planes, H / stride, W / stride), halves rounded up where it is ``odd``.
    """

    def __init__(self, inputs: int, planes: int, stride: int, groups: int, *, odd: bool) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.parts = [inputs, outputs - inputs]
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, planes, 1, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, stride, 1, groups=groups, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.AvgPool2d(2, ceil_mode=odd) if stride == 2 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        if not self.parts[1]:
            return torch.add(out, self.shortcut(x))
        old, new = torch.split(out, self.parts, dim=1)
        return torch.cat([old + self.shortcut(x), new], 1)


def pyramidnet(
    blocks: int,
    alpha: float,
    groups: int = 2,
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    first: int = 16,
) -> nn.Sequential:
    """Return a network of three stages for images of ``shape`` (C, H, W): (N, C, H, W) -> (N, classes).

    Each stage has so many bottlenecks, whose planes grow from ``first`` by ``alpha`` in equal steps; they are
    rounded down to whole groups.
    """
    channels, *sides = shape
    layers: list[nn.Module] = [nn.Conv2d(channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)]
    inputs, planes = first, float(first)
    for number in range(3 * blocks):
        planes += alpha / (3 * blocks)
        whole = round(planes)
        whole -= whole % groups
        stride = 2 if number in (blocks, 2 * blocks) else 1
        odd = any(side % 2 for side in sides)
        sides = [math.ceil(side / stride) for side in sides]
        layers.append(Bottleneck(inputs, whole, stride, groups, odd=odd))
        inputs = EXPANSION * whole
    head = (nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, *head, nn.Linear(inputs, classes))
