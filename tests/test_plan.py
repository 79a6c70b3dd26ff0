"""Shapes follow the arithmetic of convolutions, and every block has a name of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.errors import SpaceError
from netsmith.plan import Block, Layer, Plan, bare, residual, summed

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
    cell=st.sampled_from(["", "norm+relu", "1x1:8", "1x1:8/4", "1x1:8/4/2", "norm,3x3:8"]),
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
    assert Block("dense", 16, 24, 8, 8, cell="norm,3x3:8").key == "dense:16x8x8-24[norm,3x3:8]"
    assert Block("pool", 16, 16, 8, 8, 2, 2).key == "pool:16x8x8-16:k2s2"


@given(small, small, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]))
def test_output_size_is_that_of_a_padded_convolution(
    height: int, width: int, kernel: int, stride: int
) -> None:
    def size(pixels: int) -> int:
        return (pixels + 2 * (kernel // 2) - kernel) // stride + 1

    block = Block("conv", 1, 1, height, width, kernel, stride)
    assert block.output_size == (size(height), size(width))


@given(small.filter(lambda size: size > 1), st.sampled_from([1, 2]))
def test_an_even_kernel_is_not_padded(height: int, stride: int) -> None:
    assert Block("pool", 1, 1, height, 8, 2, stride).output_size[0] == (height - 2) // stride + 1


layers = st.one_of(
    st.sampled_from(["norm", "norm+relu"]).map(Layer),
    st.builds(
        Layer,
        st.just("conv"),
        st.sampled_from([1, 3, 5]),
        st.integers(1, 4096),
        st.integers(1, 64),
        st.just(1),
    ),
    st.builds(
        Layer, st.just("conv"), st.just(1), st.integers(1, 4096), st.integers(1, 64), st.integers(1, 16)
    ),
)


@given(st.lists(layers, min_size=1, max_size=8))
def test_a_cell_is_read_as_it_is_written(cell: list[Layer]) -> None:
    assert Block("dense", 8, 16, 4, 4, cell=",".join(map(str, cell))).layers == tuple(cell)


@pytest.mark.parametrize(
    "text",
    ["relu", "norm,", "3x1:8", "2x2:8", "3x3:0", "3x3:08", "3x3:8/1", "3x3:8/2/1", "3x3:8/1/2", "1x1:1234567",
     "3x3:-8", "norm+relu,norm ", "norm," * 200 + "norm"],
)  # fmt: skip
def test_a_cell_that_is_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        Block.from_dict({**Block("dense", 8, 16, 4, 4).to_dict(), "cell": text})


@given(st.lists(blocks, min_size=1, max_size=4))
def test_json_brings_back_the_same_plan(members: list[Block]) -> None:
    plan = Plan(tuple(members))
    assert Plan.from_list(json.loads(json.dumps(plan.to_list()))) == plan
    assert plan.input_shape == members[0].input_shape
    assert plan.classes == members[-1].out_channels


@pytest.mark.parametrize(
    "change",
    [{"kernel": "3"}, {"kernel": 3.0}, {"shortcut": 1}, {"op": 5}, {"hidden": None}, {"colour": 1},
     {"cell": 5}, {"height": -1}, {"in_channels": 10**9}, {"stride": 0}, {"op": "x" * 1000}],
)  # fmt: skip
def test_what_is_not_a_block_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="not a block"):
        Block.from_dict({**Block("conv", 1, 1, 8, 8).to_dict(), **change})


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(SpaceError, match="not a block"):
        Block.from_dict({"op": "conv"})


operations = st.builds(
    Block,
    st.sampled_from(["mbconv", "basic"]),
    st.just(8),
    st.just(16),
    st.just(6),
    st.just(4),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.just(2),
    hidden=st.integers(1, 999999),
    shortcut=st.just(False),
)


@given(st.lists(operations, min_size=2, max_size=5))
def test_a_sum_is_read_as_it_is_written(parts: list[Block]) -> None:
    block = summed(parts)
    assert block.parts == block.terms == tuple(parts)
    assert block.layers == ()
    assert (block.input_shape, block.output_size) == (parts[0].input_shape, parts[0].output_size)
    assert Block.from_dict(json.loads(json.dumps(block.to_dict()))) == block


@given(st.lists(operations, min_size=1, max_size=5))
def test_residual_operations_are_added_up_with_one_shortcut(parts: list[Block]) -> None:
    terms = [residual(part) for part in parts]
    block = summed(terms)
    assert block.shortcut
    assert block.key.endswith("+")
    assert block.terms == tuple(terms)
    assert [bare(term) for term in terms] == parts
    assert len(parts) == 1 or block == replace(summed(parts), shortcut=True)
    assert Block.from_dict(json.loads(json.dumps(block.to_dict()))) == block


@given(st.lists(operations, min_size=1, max_size=3), st.lists(operations, min_size=1, max_size=3))
def test_keys_of_sums_are_equal_exactly_for_equal_sums(first: list[Block], second: list[Block]) -> None:
    assert (summed(first).key == summed(second).key) == (first == second)


def test_a_sum_of_one_is_that_one_and_others_must_agree() -> None:
    block = Block("mbconv", 8, 16, 6, 4, 3, 2, 48)
    assert summed([block]) is block
    unlike = Block("basic", 8, 16, 6, 4, 3, 1, 16), Block("basic", 8, 17, 6, 4, 3, 2, 16), residual(block)
    for other in unlike:
        with pytest.raises(SpaceError, match="same shapes, strides and shortcuts"):
            summed([block, other])
    with pytest.raises(SpaceError, match="an operation of a sum"):
        summed([block, Block("skip", 8, 16, 6, 4)])


@pytest.mark.parametrize(
    "text",
    ["", "mbconv", "mbconv:k3h8,", "mbconv:k4h8", "mbconv:k3h08", "mbconv:k33h8", "mbconv:k3h1234567",
     "conv:k3h8", "basic:k3h8+", "sum:k3h8", "basic:k3h8," * 50 + "basic:k3h8"],
)  # fmt: skip
def test_a_sum_that_is_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        Block.from_dict({**Block("sum", 8, 16, 4, 4).to_dict(), "cell": text})
