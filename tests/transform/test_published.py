"""The published cell in the published networks has the published number of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netsmith.nn.densenet import densenet
from netsmith.nn.pyramidnet import pyramidnet
from netsmith.spaces.tree import TREE_CELL_A
from netsmith.transform.sites import grown, sites_of


def celled(base: nn.Module) -> nn.Module:
    """The cell in the place of every 3x3 convolution but the first."""
    _, *sites = sites_of(base).found
    made, _, _ = grown(base, sites, TREE_CELL_A)
    return made


@pytest.mark.parametrize(
    ("base", "millions"),
    [(lambda: pyramidnet(18, 84, 2), 5.7), (lambda: densenet(16, 48, 2), 13.1)],
    ids=["PyramidNet", "DenseNet"],
)
def test_tree_cell_a_has_the_published_parameters(base: type[nn.Module], millions: float) -> None:
    with torch.device("meta"):
        network = base()
    count = sum(parameter.numel() for parameter in celled(network).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def test_small_ones_run() -> None:
    for base in (pyramidnet(2, 8, 2), densenet(2, 8, 2)):
        x = torch.randn(2, 3, 16, 16)
        assert celled(base).eval()(x).shape == base.eval()(x).shape == (2, 10)
