"""The walk keeps its limit whatever the agent says, and ends where the planted optimum is."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest
import torch
from torch import nn

from netsmith.compress.agent import search_walk
from netsmith.compress.allocation import Choices, Widths
from netsmith.compress.amc import ChannelWalk
from netsmith.compress.dependencies import channels_of
from netsmith.errors import BudgetError

SHAPE = (3, 16, 16)


def walk_of(module: nn.Module, share: float, guaranteed: bool = False) -> ChannelWalk:
    channels = channels_of(module, SHAPE)
    choices = Choices(channels, step=2)
    limit = max(share * channels.macs({}), channels.macs(choices.least))
    return ChannelWalk(choices, channels.macs, limit, lambda w: 0.75, accuracy_guaranteed=guaranteed)


def test_whatever_is_said_the_limit_is_kept_and_states_are_in_range(each: nn.Module) -> None:
    channels = channels_of(each, SHAPE)
    for share in (0.3, 0.6):
        walk = walk_of(each, share)
        limit = max(share * channels.macs({}), channels.macs(Choices(channels, step=2).least))
        for seed in range(4):
            rng, actions = Random(seed), []
            for step in range(walk.steps):
                state = walk.state(actions)
                assert len(state) == walk.features == 11
                assert all(0 <= value <= 1 for value in state)
                proposed = rng.random()
                actions.append(walk.bounded(actions, proposed))
                assert actions[-1] <= proposed, step
            assert channels.macs(walk.widths(actions)) <= limit
            assert set(walk.widths(actions)) == {group.name for group in channels.groups}


def test_what_a_walk_leaves_of_the_limit_is_given_back(each: nn.Module) -> None:
    channels = channels_of(each, SHAPE)
    choices = Choices(channels, step=2)
    limit = channels.macs({})
    walk = ChannelWalk(choices, channels.macs, limit, lambda w: 0.75)
    assert walk.widths([0.5] * walk.steps) == {group.name: group.channels for group in channels.groups}
    half = choices.widths({group.name: 0.5 for group in channels.groups})
    tight = ChannelWalk(choices, channels.macs, channels.macs(half), lambda w: 0.75)
    assert tight.widths(tight.actions(half)) == half


def test_an_action_is_only_bounded_where_it_must_be(each: nn.Module) -> None:
    walk = walk_of(each, 1.0)
    actions: list[float] = []
    for _ in range(walk.steps):
        assert walk.bounded(actions, 1.0) == 1.0
        actions.append(1.0)
    assert walk.widths(actions) == {g.name: g.channels for g in channels_of(each, SHAPE).groups}


def test_rewards_are_the_published_ones(each: nn.Module) -> None:
    walk, guaranteed = walk_of(each, 0.5), walk_of(each, 0.5, guaranteed=True)
    actions = [0.2] * walk.steps
    cost = channels_of(each, SHAPE).macs(guaranteed.widths(actions))
    assert walk.reward(actions) == -0.25
    assert guaranteed.reward(actions) == pytest.approx(-0.25 * math.log(cost))


def test_the_state_says_what_is_saved_and_what_is_left() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1), nn.Flatten())
    channels = channels_of(module, SHAPE)
    walk = ChannelWalk(Choices(channels, step=2), channels.macs, channels.macs({}), lambda w: 1.0)
    whole = 3 * 8 + 8 * 8 + 8 * 5
    saved, rest, last = walk.state([0.5])[-3:]
    assert saved == pytest.approx(1 - (3 * 4 + 4 * 8 + 8 * 5) / whole)
    assert rest == pytest.approx((4 * 8 + 8 * 5 - 4 * 2 - 2 * 5) / whole)
    assert last == 0.5
    assert walk.state([])[-3:] == pytest.approx([0, (whole - 3 * 2 - 2 * 2 - 2 * 5) / whole, 1.0])


def test_the_agent_finds_which_group_matters() -> None:
    """Of three groups one is worth everything: by brute force, the best of all widths within the limit."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 5, 1), nn.Flatten()
    )
    channels = channels_of(module, SHAPE)
    choices = Choices(channels, step=4, least=0.25)
    limit = 0.5 * channels.macs({})

    def score(widths: Widths) -> float:
        return 0.1 * widths["0"] / 16 + 0.8 * widths["1"] / 16 + 0.1 * widths["2"] / 16

    every = (dict(zip(choices.of, widths, strict=True)) for widths in itertools.product(*choices.of.values()))
    best = max(score(widths) for widths in every if channels.macs(widths) <= limit)
    walk = ChannelWalk(choices, channels.macs, limit, score)
    found = search_walk(walk, episodes=60, seed=0, warmup=15)
    assert score(walk.widths(found.actions)) >= best - 0.03
    assert found.reward == pytest.approx(score(walk.widths(found.actions)) - 1)


def test_a_limit_out_of_reach_is_refused(each: nn.Module) -> None:
    channels = channels_of(each, SHAPE)
    with pytest.raises(BudgetError, match="fewest channels"):
        ChannelWalk(Choices(channels), channels.macs, 10, lambda w: 1.0)
