"""Shapes follow the arithmetic of convolutions, and every block has a name of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.errors import SpaceError
from netsmith.plan import Block, Plan

small = st.integers(1, 12)
blocks = st.builds(
    Block,
    st.sampled_from(["conv", "mbconv", "skip", "head", "pool"]),
    small,
    small,
    small,
    small,
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    hidden=st.integers(0, 3),
    shortcut=st.booleans(),
)


@given(blocks, blocks)
def test_keys_are_equal_exactly_for_equal_blocks(first: Block, second: Block) -> None:
    assert (first.key == second.key) == (first == second)


def test_keys_never_change() -> None:
    """Cached latency tables and the identifiers of spaces hold them."""
    assert Block("mbconv", 24, 24, 28, 30, 5, 1, 72, True).key == "mbconv:24x28x30-24:k5s1h72+"
    assert Block("conv", 3, 32, 32, 32, 1, 2).key == "conv:3x32x32-32:k1s2"
    assert Block("skip", 24, 24, 28, 28).key == "skip:24x28x28-24"
    assert Block("head", 80, 10, 4, 4, hidden=320).key == "head:80x4x4-10h320"


@given(small, small, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]))
def test_output_size_is_that_of_a_padded_convolution(
    height: int, width: int, kernel: int, stride: int
) -> None:
    def size(pixels: int) -> int:
        return (pixels + 2 * (kernel // 2) - kernel) // stride + 1

    block = Block("conv", 1, 1, height, width, kernel, stride)
    assert block.output_size == (size(height), size(width))


@given(st.lists(blocks, min_size=1, max_size=4))
def test_json_brings_back_the_same_plan(members: list[Block]) -> None:
    plan = Plan(tuple(members))
    assert Plan.from_list(json.loads(json.dumps(plan.to_list()))) == plan
    assert plan.input_shape == members[0].input_shape
    assert plan.classes == members[-1].out_channels


@pytest.mark.parametrize(
    "change",
    [{"kernel": "3"}, {"kernel": 3.0}, {"shortcut": 1}, {"op": 5}, {"hidden": None}, {"colour": 1}],
)
def test_what_is_not_a_block_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="not a block"):
        Block.from_dict({**Block("conv", 1, 1, 8, 8).to_dict(), **change})


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(SpaceError, match="not a block"):
        Block.from_dict({"op": "conv"})
