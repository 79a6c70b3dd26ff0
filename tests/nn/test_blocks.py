"""The operations of routed networks, alone and added up, compute and cost what their plan says."""

from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F

from netsmith.errors import SpaceError
from netsmith.nn.blocks import BN_EPS, build_block
from netsmith.nn.count import count, count_block, count_plan
from netsmith.nn.network import Network
from netsmith.plan import Block, residual, summed
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed

BASIC = Block("basic", 16, 24, 8, 6, 3, 2, hidden=20)
MBCONV = Block("mbconv", 16, 24, 8, 6, 5, 2, hidden=48)
SPACE = routed((3, 12, 10), 4, width=0.5, stages=[Stage(32, 2, 2)])


def test_a_basic_block_is_two_convolutions_between_norms() -> None:
    torch.manual_seed(0)
    layer, x = build_block(BASIC).eval(), torch.randn(2, 16, 8, 6)
    scale = (1 + BN_EPS) ** -0.5
    between = F.relu(scale * F.conv2d(x, layer.first.weight, None, 2, 1))
    expected = F.relu6(scale * F.conv2d(between, layer.second.weight, None, 1, 1))
    torch.testing.assert_close(layer(x), expected)


def test_the_shortcut_of_a_basic_block_is_that_of_resnet() -> None:
    block = build_block(Block("basic", 16, 16, 8, 6, 3, hidden=20, shortcut=True)).eval()
    x = torch.randn(2, 16, 8, 6)
    inside = F.relu(block.between(block.first(x)))
    torch.testing.assert_close(block(x), F.relu(x + block.norm(block.second(inside))))


def test_a_basic_block_has_the_costs_of_its_two_convolutions() -> None:
    counts = count_block(BASIC)
    assert counts.macs == 9 * 4 * 3 * (16 * 20 + 20 * 24)
    assert counts.params == 9 * (16 * 20 + 20 * 24) + 2 * (20 + 24)
    assert not counts.uncounted


def test_a_sum_is_what_its_operations_give_added_up_and_costs_what_they_do() -> None:
    torch.manual_seed(0)
    layer, x = build_block(summed([MBCONV, BASIC])).eval(), torch.randn(2, 16, 8, 6)
    first, second = layer.parts
    torch.testing.assert_close(layer(x), first(x) + second(x))
    parts, whole = [count_block(MBCONV), count_block(BASIC)], count_block(summed([MBCONV, BASIC]))
    assert whole.macs == sum(c.macs for c in parts)
    assert whole.params == sum(c.params for c in parts)
    assert not whole.uncounted


def test_a_sum_with_a_shortcut_adds_its_input_once() -> None:
    operations = Block("basic", 16, 16, 8, 6, 3, hidden=20), Block("mbconv", 16, 16, 8, 6, 5, hidden=48)
    x = torch.randn(2, 16, 8, 6)
    for parts in (operations[:1], operations):
        layer = build_block(summed([residual(part) for part in parts])).eval()
        torch.testing.assert_close(layer(x), x + sum(part(x) for part in layer.parts))
    alone = build_block(residual(operations[1])).eval()
    bare = build_block(operations[1]).eval()
    bare.load_state_dict(alone.state_dict())
    torch.testing.assert_close(alone(x), x + bare(x))


@pytest.mark.parametrize("seed", range(6))
def test_networks_have_the_shapes_and_the_costs_of_their_plans(seed: int) -> None:
    torch.manual_seed(0)
    plan = SPACE.plan(SPACE.sample(Random(seed)))
    network = Network(plan)
    x = torch.randn(2, *plan.input_shape).contiguous(memory_format=torch.channels_last)
    for block, module in zip(plan.blocks, network.blocks, strict=True):
        assert tuple(x.shape[1:]) == block.input_shape
        x = module(x)
        if block.op != "head":
            assert tuple(x.shape[1:]) == (block.out_channels, *block.output_size)
    x.sum().backward()
    whole, by_block = count(network, plan.input_shape), count_plan(plan)
    assert (whole.macs, whole.params) == (by_block.macs, by_block.params)


def test_blocks_that_cannot_be_built_are_refused() -> None:
    for channels, stride in ((24, 1), (16, 2)):
        with pytest.raises(SpaceError, match="a shortcut needs stride 1"):
            build_block(Block("basic", 16, channels, 8, 6, 3, stride, hidden=16, shortcut=True))
        with pytest.raises(SpaceError, match="a shortcut needs stride 1"):
            build_block(residual(Block("basic", 16, channels, 8, 6, 3, stride, hidden=16)))
    with pytest.raises(SpaceError, match="an operation of a sum"):
        build_block(Block("sum", 16, 16, 8, 6))
    with pytest.raises(SpaceError, match="no module is known"):
        build_block(Block("pixie", 16, 16, 8, 6))
