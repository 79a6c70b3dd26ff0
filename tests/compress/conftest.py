"""Networks whose channels are joined in every way that is common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.nn.network import Network
from netsmith.spaces.mobilenetv2 import mobilenetv2

SHAPE = (3, 16, 16)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Vgg(nn.Module):
    """A chain that ends in a flattening: each channel is several inputs of the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 12), nn.MaxPool2d(2), conv(12, 16))
        self.hidden = nn.Linear(16 * 16, 20)
        self.classifier = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.classifier(F.relu(self.hidden(self.features(x).flatten(1))))
        return out


class Residual(nn.Module):
    """Two branches whose sum joins the stem with the end of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.first = nn.Sequential(conv(8, 12), nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8))
        self.second = nn.Sequential(conv(8, 10), nn.Conv2d(10, 8, 1), nn.BatchNorm2d(8))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = F.relu(x + self.first(x))
        x = F.relu(x + self.second(x))
        out: torch.Tensor = self.classifier(x.mean((2, 3)))
        return out


class Dense(nn.Module):
    """Concatenations: what reads them has channels of several groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = conv(3, 8), conv(8, 4), conv(12, 6)
        self.classifier = nn.Linear(18, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.first(x)], 1)
        x = torch.cat([self.second(x), x], 1)
        out: torch.Tensor = self.classifier(x.mean((2, 3)))
        return out


class Grouped(nn.Module):
    """A grouped convolution between others, and one filter a channel behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.depthwise = conv(3, 8), conv(8, 12, groups=4), conv(12, 12, groups=12)
        self.last = conv(12, 6, 1)
        self.classifier = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.depthwise(self.grouped(self.stem(x))))
        out: torch.Tensor = self.classifier(x.mean((2, 3)))
        return out


def mobile() -> nn.Module:
    return Network(mobilenetv2(SHAPE, 5, 0.1))


NETWORKS = {"vgg": Vgg, "residual": Residual, "dense": Dense, "grouped": Grouped, "mobile": mobile}


def build(name: str, seed: int = 0) -> nn.Module:
    """One of them with batch norms that do something."""
    torch.manual_seed(seed)
    module = NETWORKS[name]()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """``network(name, seed)`` builds one for images of (3, 16, 16) and five labels, in evaluation mode."""
    return build


@pytest.fixture(params=list(NETWORKS))
def each(request: pytest.FixtureRequest) -> nn.Module:
    """Every one of them in turn."""
    return build(request.param)
