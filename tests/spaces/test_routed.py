"""The routed space: every set of operations is one network, and no network is two archs."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError
from netsmith.plan import Block, bare
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.spaces.routed import RoutedSpace, routed
from netsmith.testing import buildable_contract

TINY = routed((3, 8, 8), 4, width=0.25, stages=[Stage(32, 2, 2)], mbconvs=[(3, 2), (5, 2)])


@pytest.mark.parametrize(
    "space",
    [routed((3, 32, 32), 10), routed((1, 28, 28), 10, width=0.5), routed((1, 16, 20), 4), TINY],
)  # fmt: skip
def test_keeps_the_contract_of_spaces(space: RoutedSpace) -> None:
    buildable_contract(space)


def test_at_32_pixels_it_is_the_published_space() -> None:
    space = routed((3, 32, 32), 10)
    assert space.count() == 31**7 * 32**10
    assert [len(edge) for edge in space.edges] == [5] * 17
    outputs = [(edge[0].out_channels, edge[0].output_size[0]) for edge in space.edges]
    assert outputs == [
        (16, 32), *[(24, 32)] * 2, *[(32, 16)] * 3, *[(64, 8)] * 4, *[(96, 8)] * 3, *[(160, 4)] * 3, (320, 4),
    ]  # fmt: skip
    firsts = [0, 1, 3, 6, 10, 13, 16]
    assert [i for i, skippable in enumerate(space.skippable) if not skippable] == firsts
    assert space.edges[2][4].key == "sum:24x32x32-24[basic:k3h24]+"
    assert [(b.op, b.kernel, b.hidden, b.shortcut) for b in space.edges[2]] == [
        ("mbconv", 3, 144, True), ("mbconv", 3, 72, True), ("mbconv", 5, 144, True), ("mbconv", 5, 72, True),
        ("sum", 1, 0, True),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_first_operations_alone_are_mobilenetv2_but_for_its_first_block(size: int) -> None:
    """There the published space expands by six, as everywhere."""
    space = routed((3, size, size), 10)
    ours = space.plan(space.arch((1,) * 17)).blocks
    theirs = mobilenetv2((3, size, size), 10).blocks
    assert [b.key for i, b in enumerate(ours) if i != 1] == [b.key for i, b in enumerate(theirs) if i != 1]


def test_every_set_is_one_network_and_no_network_is_two_archs() -> None:
    archs = [TINY.arch(choices) for choices in product(*TINY.options)]
    assert len(archs) == TINY.count() == 7 * 8
    assert len({TINY.plan(arch) for arch in archs}) == TINY.count()
    assert len({TINY.encode(arch) for arch in archs}) == TINY.count()


def test_where_none_is_active_an_edge_is_skipped_or_the_last_operation_stands_in() -> None:
    arch = TINY.arch((0, 0))
    assert arch.choices == (4, 0)
    assert [block.op for block in TINY.plan(arch).blocks] == ["conv", "basic", "skip", "head"]
    with pytest.raises(ArchError, match=r"decision 0 is one of 1\.\.7; got 0"):
        TINY.check(Arch(TINY.id, (0, 0)))
    with pytest.raises(ArchError):
        TINY.arch((0,))
    with pytest.raises(ArchError):
        TINY.arch((0, 0, 0))


def test_several_active_operations_are_a_sum() -> None:
    plan = TINY.plan(TINY.arch((5, 2)))
    assert plan.blocks[1].parts == (TINY.edges[0][0], TINY.edges[0][2])
    assert plan.blocks[1].key == "sum:8x8x8-8:k1s2[mbconv:k3h16,basic:k3h8]"
    assert plan.blocks[2] == TINY.edges[1][1]
    both = TINY.plan(TINY.arch((1, 6))).blocks[2]
    assert both.key == "sum:8x4x4-8[mbconv:k5h16,basic:k3h8]+"
    assert both.terms == TINY.edges[1][1:]
    assert TINY.decisions["block 02"][:3] == ("-", TINY.edges[1][0].key, TINY.edges[1][1].key)
    assert TINY.decisions["block 02"][3] == f"{TINY.edges[1][0].key} + {TINY.edges[1][1].key}"


def test_the_table_holds_each_operation_once_and_no_sum_of_several() -> None:
    assert Counter(block.op for block in TINY.blocks) == {
        "conv": 1,
        "mbconv": 4,
        "basic": 1,
        "sum": 1,
        "head": 1,
    }


def test_samples_are_uniform() -> None:
    rng, space = Random(0), TINY
    drawn = Counter(space.sample(rng) for _ in range(5600))
    assert set(drawn) == {space.arch(choices) for choices in product(*space.options)}
    assert max(drawn.values()) < 150  # 100 expected, standard deviation 10


def test_a_shortcut_that_is_not_of_the_edge_is_refused_where_an_operation_is_alone() -> None:
    """ResNet's takes ReLU of the sum: the path alone would not be what the supernet computes."""
    alone = Block("basic", 8, 8, 4, 4, 3, hidden=8, shortcut=True)
    with pytest.raises(SpaceError, match="have a shortcut where their shapes agree"):
        RoutedSpace("odd", TINY.stem, ((bare(TINY.edges[0][0]),), (alone,)), TINY.head)


def test_what_cannot_be_added_up_or_built_is_refused() -> None:
    operation = TINY.edges[1][0]
    skip = Block("skip", 8, 8, 4, 4)
    with pytest.raises(SpaceError, match="an operation of a sum"):
        RoutedSpace("odd", TINY.stem, (TINY.edges[0], (operation, skip)), TINY.head)
    with pytest.raises(SpaceError, match=r"the same number of operations; got \[2, 3\]"):
        RoutedSpace("odd", TINY.stem, (TINY.edges[0], TINY.edges[1][:2]), TINY.head)
    with pytest.raises(SpaceError, match="have a shortcut where their shapes agree"):
        RoutedSpace("odd", TINY.stem, (TINY.edges[0], tuple(map(bare, TINY.edges[1]))), TINY.head)
    with pytest.raises(SpaceError, match="space 'routed' takes images"):
        routed((3, 4, 4), 10)
    with pytest.raises(SpaceError, match="kernels are odd"):
        routed((3, 32, 32), 10, mbconvs=[(4, 6)])
    with pytest.raises(SpaceError, match="kernels are odd"):
        routed((3, 32, 32), 10, mbconvs=[])
