"""Convolutions are found with what belongs to them, whatever the forward looks like."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import TransformError
from netsmith.nn.network import Network
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.transform.sites import Site, sites_of, with_trees


class Block(nn.Module):
    """As a residual block is written by hand: one activation for all, norms as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.point, self.relu = nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True)
        self.odd = nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        return self.odd(self.point(self.twice(self.twice(x)))).mean((2, 3))


def test_sites_have_their_norm_and_activation_and_others_a_reason() -> None:
    sites = sites_of(Block())
    assert sites.found == (Site("conv1", "bn1", "relu"), Site("conv2", "bn2", "none"))
    assert sites.untouched == {
        "twice": "it runs 2 times", "point": "it is 1x1", "odd": "its padding is 'same' of mode 'zeros'",
    }  # fmt: skip


def test_with_trees_the_network_is_the_same() -> None:
    torch.manual_seed(0)
    block, x = Block(), torch.randn(4, 3, 8, 8)
    block(x)
    block.eval()
    made, trees = with_trees(block, sites_of(block).found)
    assert list(trees) == ["conv1", "conv2"]
    torch.testing.assert_close(made(x), block(x))
    assert isinstance(made.bn1, nn.Identity)
    assert isinstance(block.bn1, nn.BatchNorm2d), "the network itself is left as it is"


def test_the_depthwise_convolutions_of_a_network_of_ours_are_found() -> None:
    network = Network(mobilenetv2((3, 32, 32), 10, 0.25)).eval()
    sites = sites_of(network)
    assert all(site.activation == "relu6" for site in sites.found)
    assert len(sites.found) == sum(
        isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1 for layer in network.modules()
    )
    made, _ = with_trees(network, sites.found)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(made(x), network(x))


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(TransformError, match="cannot be traced"):
        sites_of(Branches())
