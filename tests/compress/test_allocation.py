"""Widths keep the limit and leave little of it unused; the knapsack is the optimum where that is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from itertools import islice

import pytest
import torch
from torch import nn

from netsmith.compress.allocation import Choices, Widths, by_score, drawn, kept_of, knapsack, uniform
from netsmith.compress.channels import Channels, Group
from netsmith.compress.dependencies import channels_of
from netsmith.compress.importance import Scores, magnitude
from netsmith.errors import BudgetError

SHAPE = (3, 16, 16)


def planted(count: int = 3, width: int = 32) -> tuple[Channels, Scores]:
    """Groups that nothing joins, with scores that fall from channel to channel and from group to group."""
    groups = tuple(Group(f"g{i}", width, 1, 0, ()) for i in range(count))
    scores = {g.name: torch.linspace(1, 0.1, width).double() / (i + 1) for i, g in enumerate(groups)}
    return Channels(groups, (), 0, {}), scores


def summed(scores: Scores, widths: Mapping[str, int]) -> float:
    return sum(float(scores[name].topk(width).values.sum()) for name, width in widths.items())


def test_every_way_keeps_the_limit_and_leaves_less_than_a_step_of_it(each: nn.Module) -> None:
    channels = channels_of(each, SHAPE)
    choices, scores = Choices(channels, step=2), magnitude(each, channels)
    whole = channels.macs({})
    for share in (0.8, 0.5, 0.3):
        limit = max(share * whole, channels.macs(choices.least))
        found = {
            "uniform": uniform(choices, channels.macs, limit),
            "by score": by_score(choices, scores, channels.macs, limit),
            "knapsack": knapsack(choices, scores, channels.macs, limit),
            "drawn": next(drawn(choices, channels.macs, limit, 0)),
        }
        for widths in found.values():
            assert channels.macs(widths) <= limit
            assert all(width in choices.of[name] for name, width in widths.items())
        wider = {n: next((w for w in choices.of[n] if w > v), v) for n, v in found["uniform"].items()}
        assert channels.macs(wider) > limit
        assert {g: len(stay) for g, stay in kept_of(channels, scores, found["by score"]).items()} == found[
            "by score"
        ]


def test_what_cannot_be_kept_is_refused() -> None:
    channels, scores = planted()
    choices = Choices(channels)
    ways: list[Callable[[], object]] = [
        lambda: uniform(choices, total, 23),
        lambda: by_score(choices, scores, total, 23),
        lambda: knapsack(choices, scores, total, 23),
        lambda: next(drawn(choices, total, 23, 0)),
    ]
    for way in ways:
        with pytest.raises(
            BudgetError, match="the network costs 24, over the limit of 23; whole it costs 96"
        ):
            way()


def total(widths: Mapping[str, int]) -> float:
    return float(sum({**dict.fromkeys(("g0", "g1", "g2"), 32), **widths}.values()))


def test_a_limit_that_the_whole_network_keeps_takes_nothing() -> None:
    channels, scores = planted()
    choices, whole = Choices(channels), dict.fromkeys(("g0", "g1", "g2"), 32)
    assert uniform(choices, total, 96) == by_score(choices, scores, total, 97) == whole
    assert knapsack(choices, scores, total, 96) == next(drawn(choices, total, 96, 3)) == whole


def staircase(widths: Mapping[str, int]) -> float:
    """A cost that jumps at 17 and 25 channels and is level between, as kernels of 8 and 16 lanes are."""
    full = {**dict.fromkeys(("g0", "g1", "g2"), 32), **widths}
    return float(sum((1, 1.1, 3, 4)[-(-width // 8) - 1] for width in full.values()))


def coupled(widths: Mapping[str, int]) -> float:
    """Products of neighbours, as multiply-adds are."""
    a, b, c = ({**dict.fromkeys(("g0", "g1", "g2"), 32), **widths}[f"g{i}"] for i in range(3))
    return float(3 * a + a * b + b * c + c * 10)


@pytest.mark.parametrize("cost", [total, staircase])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_the_knapsack_is_the_optimum_where_costs_add_up(
    cost: Callable[[Mapping[str, int]], float], share: float
) -> None:
    channels, scores = planted()
    choices = Choices(channels)
    limit = max(share * cost({}), cost(choices.least))
    best = max(summed(scores, widths) for widths in every(choices) if cost(widths) <= limit)
    assert summed(scores, knapsack(choices, scores, cost, limit)) == pytest.approx(best, rel=1e-3)


def test_where_costs_are_coupled_it_is_close_and_above_the_simple_ways() -> None:
    channels, scores = planted()
    choices = Choices(channels)
    for share in (0.3, 0.5, 0.7):
        limit = share * coupled({})
        best = max(summed(scores, widths) for widths in every(choices) if coupled(widths) <= limit)
        mine = summed(scores, knapsack(choices, scores, coupled, limit))
        assert mine >= 0.9 * best
        assert mine >= summed(scores, uniform(choices, coupled, limit)) - 1e-9


def every(choices: Choices) -> list[Widths]:
    return [dict(zip(choices.of, widths, strict=True)) for widths in itertools.product(*choices.of.values())]


def test_draws_differ_and_repeat_by_their_seed() -> None:
    channels, _ = planted()
    choices = Choices(channels)
    first, second = (list(islice(drawn(choices, total, 60, 4), 20)) for _ in range(2))
    assert first == second
    assert len({tuple(widths.values()) for widths in first}) >= 8
    assert first != list(islice(drawn(choices, total, 60, 5), 20))


def test_widths_are_multiples_as_far_as_that_leaves_a_choice() -> None:
    groups = (
        Group("wide", 60, 1, 0, ()),
        Group("narrow", 12, 1, 0, ()),
        Group("grouped", 48, 4, 0, ()),
        Group("two", 2, 1, 0, ()),
    )
    choices = Choices(Channels(groups, (), 0, {}), step=8)
    assert choices.of["wide"] == [16, 24, 32, 40, 48, 56, 60]
    assert choices.of["narrow"] == [4, 6, 8, 10, 12]
    assert choices.of["grouped"] == [16, 24, 32, 40, 48]
    assert choices.of["two"] == [1, 2]
