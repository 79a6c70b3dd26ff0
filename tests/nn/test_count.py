"""Counts equal closed forms and published figures."""

from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.count import count, count_block, count_plan
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, Plan
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.spaces.mobilenetv2 import mobilenetv2


def test_mobilenetv2_has_the_published_cost() -> None:
    counts = count_plan(mobilenetv2((3, 224, 224), 1000))
    assert counts.macs == pytest.approx(300.8e6, rel=5e-4)
    assert counts.params == 3_504_872  # of torchvision's
    assert counts.size_bytes == 4 * counts.params
    # the widest block expands 16 to 96 channels at 112x112 and halves them: both maps, and nothing else
    assert counts.peak_activation_bytes == 4 * 96 * (112 * 112 + 56 * 56)
    assert not counts.uncounted


def test_proxylessnas_mobile_has_the_published_cost() -> None:
    stages = [Stage(*s) for s in
              ((32, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))]  # fmt: skip
    space = mbconv((3, 224, 224), 1000, stages=stages, stem_stride=2)
    chosen = "53,33,-,-,73,33,53,53,76,53,53,53,56,53,53,53,76,76,73,73,76".split(",")  # noqa: SIM905

    def option(name: str) -> int:
        return 6 if name == "-" else (3, 5, 7).index(int(name[0])) * 2 + (name[1] == "6")

    counts = count_plan(space.plan(space.arch(tuple(map(option, chosen)))))
    assert counts.macs == pytest.approx(320e6, rel=3e-3)
    assert counts.params == pytest.approx(4.08e6, rel=3e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_costs_what_its_whole_module_does(seed: int) -> None:
    space = mbconv((3, 32, 32), 10)
    plan = space.plan(space.sample(Random(seed)))
    with torch.device("meta"):
        network = Network(plan)
    assert count(network, plan.input_shape) == count_plan(plan)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_mbconv_has_its_closed_form(stride: int) -> None:
    block = Block("mbconv", 8, 8, 12, 10, kernel=5, stride=stride, hidden=24, shortcut=stride == 1)
    pixels, out = 120, 120 // stride**2
    counts = count_block(block)
    assert counts.macs == pixels * 8 * 24 + out * 25 * 24 + out * 24 * 8
    assert counts.params == 8 * 24 + 25 * 24 + 24 * 8 + 2 * (24 + 24 + 8)
    kept = 8 * pixels if stride == 1 else 0  # the input waits for the sum
    assert counts.peak_activation_bytes == 4 * max(kept + 24 * pixels + 24 * out, 8 * pixels + 24 * pixels)


def test_layers_have_their_closed_forms() -> None:
    conv = nn.Conv2d(6, 8, (3, 5), stride=2, padding=1, groups=2)
    assert count(conv, (6, 9, 11)).macs == 8 * 5 * 5 * 3 * 15
    assert count(nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 5)).macs == 4 * 25 * 6 * 4
    linear = count(nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), (3, 4, 4))
    assert (linear.macs, linear.params) == (48 * 7, 48 * 7 + 7)
    assert count(nn.Linear(4, 7, bias=False), (3, 4, 4)).macs == 12 * 4 * 7
    assert count(Normalize((0.5,), (0.1,)), (1, 4, 4)).macs == 0
    assert count(nn.Identity(), (3, 4, 4)).peak_activation_bytes == 4 * 48


class _Branches(nn.Module):
    """Two maps are alive beside the input while the second is made."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 10, 1)
        self.slim = nn.Conv2d(2, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([F.relu(self.wide(x)), self.slim(x)], dim=1)


def test_peak_memory_follows_the_lives_of_activations() -> None:
    assert count(_Branches(), (2, 8, 8)).peak_activation_bytes == 4 * 64 * (14 + 14)
    chain = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    assert count(chain, (2, 8, 8)).peak_activation_bytes == 4 * 64 * (2 + 4)


class _Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sort(x).values


def test_what_is_not_counted_is_named() -> None:
    assert count(_Sorted(), (3, 4, 4)).uncounted == {"sort": 1}


def test_counting_changes_nothing() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count(module, (3, 8, 8))
    assert module.training
    assert not module[1].training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_an_empty_plan_is_an_error() -> None:
    with pytest.raises(SpaceError, match="without blocks"):
        count_plan(Plan(()))
