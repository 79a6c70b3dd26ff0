"""The front is exactly what nothing beats; ranks, crowding and hyper-volume against brute force."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.pareto import crowding, dominates, front, hypervolume, ranks, worths

Points = list[tuple[int, ...]]
points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=25)
of_any_size = st.integers(1, 4).flatmap(
    lambda size: st.lists(st.tuples(*[st.integers(0, 5)] * size), min_size=1, max_size=12)
)


@given(points)
def test_the_front_is_what_nothing_dominates_and_covers_the_rest(members: Points) -> None:
    kept = front(members)
    assert kept == sorted(kept)
    for i, point in enumerate(members):
        beaten = [j for j in kept if dominates(members[j], point)]
        assert bool(beaten) == (i not in kept)


@given(points)
def test_the_order_of_points_does_not_matter(members: Points) -> None:
    there = sorted(members[i] for i in front(members))
    again = sorted(members[::-1][i] for i in front(members[::-1]))
    assert there == again


def test_equal_points_are_all_kept() -> None:
    assert front([(1, 2), (1, 2), (2, 1), (2, 2)]) == [0, 1, 2]
    assert front([]) == []


def test_domination() -> None:
    assert dominates((1, 1), (1, 2))
    assert not dominates((1, 1), (1, 1))
    assert not dominates((0, 2), (1, 1))


@given(of_any_size)
def test_a_rank_is_the_front_that_is_left_when_those_before_are_taken_away(members: Points) -> None:
    found, left, rank = ranks(members), list(range(len(members))), 0
    while left:
        first = [left[i] for i in front([members[i] for i in left])]
        assert first == [i for i, r in enumerate(found) if r == rank]
        left = [i for i in left if i not in first]
        rank += 1


def test_what_failed_ranks_behind_everything() -> None:
    assert ranks([(math.inf, math.inf), (3.0, 4.0), (4.0, 3.0), (5.0, 5.0)]) == [2, 0, 0, 1]
    assert ranks([]) == []


def test_crowding_is_the_gap_between_the_points_next_to_it() -> None:
    found = crowding([(0, 10), (1, 6), (4, 1), (8, 0)])
    assert found == pytest.approx([math.inf, 4 / 8 + 9 / 10, 7 / 8 + 6 / 10, math.inf])
    assert crowding([(1, 1), (1, 1)]) == [math.inf, math.inf]
    assert crowding([(0, 3), (1, 2), (1, 2), (1, 2), (3, 0)])[2] == 0.0
    assert crowding([(math.inf, math.inf)] * 2) == [math.inf, math.inf]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_of_one_objective_the_worth_is_the_plain_order(members: list[int]) -> None:
    worth = worths([(x,) for x in members])
    for (i, a), (j, b) in product(enumerate(members), repeat=2):
        assert (worth[i] < worth[j]) == (a < b)


@given(points)
def test_the_best_is_of_the_first_front_and_the_least_crowded_there(members: Points) -> None:
    worth = worths(members)
    if members:
        kept = front(members)
        best = min(range(len(members)), key=worth.__getitem__)
        spread = dict(zip(kept, crowding([members[i] for i in kept]), strict=True))
        assert spread[best] == max(spread.values())


@given(of_any_size)
def test_the_hypervolume_counts_the_cells_that_a_point_dominates(members: Points) -> None:
    """Points and reference on a grid of whole numbers: the volume is a number of unit cells."""
    size = len(members[0])
    cells = product(range(4), repeat=size)
    volume = sum(
        any(all(x <= c for x, c in zip(point, cell, strict=True)) for point in members) for cell in cells
    )
    assert hypervolume(members, (4,) * size) == pytest.approx(volume)


@given(of_any_size)
def test_the_hypervolume_is_that_of_inclusion_and_exclusion(members: Points) -> None:
    """Of at most six points: the boxes' volumes, less those of pairs' meets, more those of three's, ..."""
    few, total = members[:6], 0.0
    for chosen in product((False, True), repeat=len(few)):
        corners = [point for point, taken in zip(few, chosen, strict=True) if taken]
        if corners:
            corner = [max(column) for column in zip(*corners, strict=True)]
            volume = math.prod(max(0.0, 3.5 - x) for x in corner)
            total -= (-1) ** len(corners) * volume
    assert hypervolume(few, (3.5,) * len(few[0])) == pytest.approx(total)


def test_what_is_not_better_than_the_reference_adds_nothing() -> None:
    assert hypervolume([(1.0, 1.0), (0.0, 2.0), (math.inf, math.inf)], (2.0, 2.0)) == 1.0
    assert hypervolume([], (1.0,)) == 0.0
