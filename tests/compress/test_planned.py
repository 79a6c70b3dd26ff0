"""The network of a pruned plan holds what is left of the weights, and computes the same."""

from __future__ import annotations

from random import Random

import pytest
import torch

from netsmith.compress.allocation import Choices, kept_of
from netsmith.compress.dependencies import channels_of
from netsmith.compress.importance import magnitude
from netsmith.compress.planned import pruned_network, pruned_space
from netsmith.compress.slicing import pruned
from netsmith.errors import SpaceError
from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.spaces.dense import dense
from netsmith.spaces.mbconv import mbconv
from netsmith.spaces.mobilenetv2 import mobilenetv2

SHAPE = (3, 16, 16)


def searched(seed: int) -> Plan:
    space = mbconv(SHAPE, 5, width=0.5)
    return space.plan(space.sample(Random(seed)))


RESNET = Plan(
    (
        Block("conv", 3, 16, 16, 16, kernel=3),
        Block("basic", 16, 16, 16, 16, kernel=3, hidden=12, shortcut=True),
        Block("basic", 16, 24, 16, 16, kernel=3, stride=2, hidden=24),
        Block("basic", 24, 24, 8, 8, kernel=3, hidden=20, shortcut=True),
        Block("head", 24, 5, 8, 8, hidden=32),
    )
)
PLANS = {"v2": mobilenetv2(SHAPE, 5, 0.1), "a": searched(0), "b": searched(1), "resnet": RESNET}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plan_and_weights_are_cut_alike(plan: Plan) -> None:
    torch.manual_seed(0)
    network = Network(plan).eval()
    channels = channels_of(network, SHAPE)
    space = pruned_space(plan, channels, Choices(channels, step=4).of)
    assert {group.name for group in space.groups} == {group.name for group in channels.groups}
    scores, rng = magnitude(network, channels), Random(0)
    x = torch.rand(2, *SHAPE)
    for _ in range(4):
        arch = space.sample(rng)
        kept = kept_of(channels, scores, space.widths(arch))
        made = pruned_network(network, space.plan(arch), channels, kept)
        with torch.no_grad():
            torch.testing.assert_close(made(x), pruned(network, channels, kept)(x))
        counts, widths = count_plan(space.plan(arch)), space.widths(arch)
        assert (counts.macs, counts.params) == (channels.macs(widths), channels.params(widths))


def test_networks_of_unknown_blocks_are_refused() -> None:
    space = dense(SHAPE, 5)
    plan = space.plan(space.arch((1, 1)))
    channels = channels_of(Network(plan), SHAPE)
    with pytest.raises(SpaceError, match="groups of channels"):
        pruned_space(plan, channels, Choices(channels).of)
