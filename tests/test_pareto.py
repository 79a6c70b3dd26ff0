"""The front is exactly what nothing beats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netsmith.pareto import dominates, front

points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=25)


@given(points)
def test_the_front_is_what_nothing_dominates_and_covers_the_rest(members: list[tuple[int, int, int]]) -> None:
    kept = front(members)
    assert kept == sorted(kept)
    for i, point in enumerate(members):
        beaten = [j for j in kept if dominates(members[j], point)]
        assert bool(beaten) == (i not in kept)


@given(points)
def test_the_order_of_points_does_not_matter(members: list[tuple[int, int, int]]) -> None:
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
