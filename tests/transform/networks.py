"""Networks drawn at random: chains and residuals of what image networks are made of, with statistics."""

from __future__ import annotations

from random import Random

import torch
from torch import nn

SHAPE = (3, 8, 8)


class Residual(nn.Module):
    """What a body gives added to what it takes, then an activation, as a function."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def unit(rng: Random, inputs: int, outputs: int, *, stride: int = 1, last: bool = False) -> nn.Sequential:
    """A convolution of some kernel and groups, a norm or a bias, and an activation or none."""
    groups = rng.choice([g for g in (1, 2, inputs) if inputs % g == 0 and outputs % g == 0])
    kernel, norm = rng.choice((1, 3, 5)), rng.random() < 0.8
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm)
    ]
    layers += [nn.BatchNorm2d(outputs)] if norm else []
    if not last:
        layers += rng.choice(([nn.ReLU()], [nn.ReLU6()], [nn.ReLU()], []))
    return nn.Sequential(*layers)


def network(seed: int) -> nn.Sequential:
    """A network for images of ``SHAPE``, ten outputs, ready to be evaluated."""
    rng = Random(seed)
    torch.manual_seed(seed)
    width = rng.choice((6, 8, 12))
    layers: list[nn.Module] = [unit(rng, SHAPE[0], width)]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            layers.append(
                Residual(nn.Sequential(unit(rng, width, width), unit(rng, width, width, last=True)))
            )
        else:
            wider = rng.choice((width, 2 * width))
            layers.append(unit(rng, width, wider, stride=rng.choice((1, 2))))
            width = wider
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    with torch.no_grad():
        for _ in range(3):
            made(2 * torch.randn(16, *SHAPE) + 0.5)
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.3)
    return made.eval()
