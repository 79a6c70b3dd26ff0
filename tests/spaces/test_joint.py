"""Archs of a chain, and of each part of it one precision of two."""

from __future__ import annotations

from random import Random

from netsmith.spaces.joint import JointSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.testing import buildable_contract

CHAIN = mbconv((1, 8, 8), 4, width=0.5, stages=[Stage(16, 2, 1), Stage(24, 2, 2)])
SPACE = JointSpace(CHAIN)


def test_it_is_a_space_like_any_other() -> None:
    buildable_contract(SPACE)


def test_parts_are_what_stands_before_the_stages_and_the_head() -> None:
    blocks = len(CHAIN.stem) + len(CHAIN.edges) + len(CHAIN.head)
    assert [place for part in SPACE.parts for place in part] == list(range(blocks))
    assert SPACE.parts[0].start == 0
    assert SPACE.parts[-1] == range(blocks - 1, blocks)
    assert SPACE.count() == CHAIN.count() * 2 ** len(SPACE.parts)
    for part in SPACE.parts[1:-1]:
        assert all(block.op != "skip" for block in CHAIN.edges[part.start - len(CHAIN.stem)])


def test_an_arch_is_a_chain_s_with_the_places_that_are_float32() -> None:
    rng = Random(0)
    whole = CHAIN.sample(rng)
    precisions = tuple(i % 2 for i in range(len(SPACE.parts)))
    arch = SPACE.arch((*whole.choices, *precisions))
    assert SPACE.whole(arch) == whole
    assert SPACE.plan(arch) == CHAIN.plan(whole)
    assert SPACE.precisions(arch) == precisions
    assert SPACE.floating(arch) == {place for part in SPACE.parts[1::2] for place in part}
