"""MobileNetV2 as published, and adapted to small images."""

from __future__ import annotations

import pytest
import torch

from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.spaces.mobilenetv2 import mobilenetv2


def test_parameters_and_multiply_adds_are_the_published_ones() -> None:
    """3,504,872 parameters as in torchvision; 300M multiply-adds (Sandler et al. 2018, table 4)."""
    counts = count_plan(mobilenetv2((3, 224, 224), 1000))
    assert counts.params == 3_504_872
    assert round(counts.macs / 1e6) == 301


@pytest.mark.parametrize(("width", "params"), [(0.5, 1_968_680), (1.4, 6_108_776)])
def test_other_widths_are_the_released_ones(width: float, params: int) -> None:
    """As in the parameter counts of the released models at widths 0.5 and 1.4."""
    assert count_plan(mobilenetv2((3, 224, 224), 1000, width)).params == params


def test_at_32_pixels_it_is_the_customary_adaptation() -> None:
    """Stem and first two stages without halving: 32, 32, 32, 32, 16, 8, 8, 4, 4."""
    blocks = mobilenetv2((3, 32, 32), 10).blocks
    assert [b.height for b in blocks if b.stride == 2] == [32, 16, 8]
    assert blocks[-1].height == 4
    assert [b.out_channels for b in blocks if b.stride == 2] == [32, 64, 160]


@pytest.mark.parametrize("size", [8, 28, 30])
def test_small_images_run(size: int) -> None:
    network = Network(mobilenetv2((1, size, size), 7, 0.25)).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, size, size)).shape == (2, 7)
