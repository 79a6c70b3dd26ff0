"""The bend and its inverse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.costs import bent, straightened

sums, bends = st.floats(0.0, 1e6), st.floats(0.0, 1e3)


@given(sums, bends)
def test_straightening_undoes_the_bend(straight: float, bend: float) -> None:
    assert straightened(bent(straight, bend), bend) == pytest.approx(straight, rel=1e-9)


@given(sums, sums, bends)
def test_a_limit_of_the_cost_is_one_of_the_sum(first: float, second: float, bend: float) -> None:
    assert (first <= second) == (bent(first, bend) <= bent(second, bend)) or first == pytest.approx(second)


def test_by_hand() -> None:
    assert bent(2.0, 0.25) == 3.0
    assert straightened(3.0, 0.25) == 2.0
    assert bent(2.0, 0.0) == straightened(2.0, 0.0) == 2.0
    assert straightened(-1.0, 0.5) == -1.0
    assert straightened(math.inf, 0.5) == math.inf
