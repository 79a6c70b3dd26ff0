"""The modules of dense networks compute what their plan says."""

from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.blocks import build_block
from netsmith.nn.condense import condensing, deployed
from netsmith.nn.count import count, count_block, count_plan
from netsmith.nn.network import Network
from netsmith.plan import Block
from netsmith.spaces.condensenet import condensenet
from netsmith.spaces.dense import DenseStage, dense

SPACE = dense((1, 12, 10), 4, stages=[DenseStage(2, 8), DenseStage(1, 16)])


def test_a_dense_layer_is_its_cell_behind_its_input() -> None:
    torch.manual_seed(0)
    block = Block("dense", 16, 24, 6, 5, cell="norm+relu,1x1:32,norm,3x3:8/4")
    layer, x = build_block(block).eval(), torch.randn(2, 16, 6, 5)
    norm, first, second, last = layer.body
    y = last(second(F.conv2d(F.relu(F.batch_norm(x, norm.running_mean, norm.running_var)), first.weight)))
    assert last.groups == 4
    torch.testing.assert_close(layer(x), torch.cat([x, y], 1), rtol=1e-4, atol=1e-4)


def test_a_classifier_averages_what_its_norm_gives() -> None:
    torch.manual_seed(0)
    layer, x = build_block(Block("classifier", 16, 5, 4, 4)).eval(), torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(layer(x), layer.linear(F.relu(x / (1 + 1e-5) ** 0.5).mean((2, 3))))
    assert not condensing(layer)
    (learned,) = condensing(build_block(Block("classifier", 16, 5, 4, 4, hidden=8)))
    learned.condense(1.0)
    assert learned.mask.sum() == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(6))
def test_networks_have_the_shapes_and_the_costs_of_their_plans(seed: int) -> None:
    torch.manual_seed(0)
    plan = SPACE.plan(SPACE.sample(Random(seed)))
    network = Network(plan)
    x = torch.randn(2, *plan.input_shape).contiguous(memory_format=torch.channels_last)
    for block, module in zip(plan.blocks, network.blocks, strict=True):
        assert tuple(x.shape[1:]) == block.input_shape
        x = module(x)
        if block.op != "classifier":
            assert tuple(x.shape[1:]) == (block.out_channels, *block.output_size)
    x.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert count(network, plan.input_shape) == count_plan(plan)


def test_costs_are_those_of_the_condensed_form_at_any_moment() -> None:
    torch.manual_seed(0)
    plan = condensenet((1, 8, 8), 4, (2, 2), (8, 16))
    network, expected = Network(plan), count_plan(plan)
    for progress in (0.0, 0.2, 0.4, 1.0):
        for layer in condensing(network):
            layer.condense(progress)
        assert count(network, (1, 8, 8)) == expected
    assert count(deployed(network), (1, 8, 8)) == expected
    dense_form = count(deployed(network, select=False), (1, 8, 8))
    learned = 64 * (16 * 32 + 24 * 32) + 16 * (32 * 64 + 48 * 64)
    assert dense_form.macs - expected.macs == learned * 3 // 4 + 4 * 64 // 2


def test_both_conventions_of_a_dense_layer_have_their_closed_forms() -> None:
    counts = count_block(Block("dense", 16, 24, 6, 5, cell="norm+relu,1x1:32/4/4,norm+relu,3x3:8/4"))
    assert counts.macs == 30 * (16 * 32 // 4 + 9 * 32 * 8 // 4)
    assert counts.condensenet_flops == counts.macs + 30 * (16 + 32)
    assert counts.params == 16 * 32 // 4 + 9 * 32 * 8 // 4 + 2 * (16 + 32)
    pool = count_block(Block("pool", 8, 8, 6, 4, 2, 2))
    assert (pool.macs, pool.condensenet_flops, pool.params) == (0, 8 * 6 * 4, 0)


@pytest.mark.parametrize(
    "block",
    [
        Block("dense", 8, 16, 4, 4),
        Block("dense", 8, 16, 4, 4, cell="norm"),
        Block("dense", 8, 16, 4, 4, cell="3x3:9"),
        Block("dense", 8, 16, 4, 4, cell="3x3:8/3"),
        Block("dense", 8, 16, 4, 4, cell="1x1:8/4/3"),
        Block("classifier", 8, 4, 4, 4, hidden=3),
    ],
)
def test_blocks_that_do_not_fit_are_refused(block: Block) -> None:
    with pytest.raises(SpaceError):
        build_block(block)


def test_weights_begin_as_those_of_other_blocks() -> None:
    torch.manual_seed(0)
    block = build_block(Block("dense", 256, 512, 4, 4, cell="1x1:256/4/4"))
    (layer,) = (part for part in block.modules() if isinstance(part, nn.Conv2d))
    assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
