"""Random search: independent draws, none twice while there are others."""

from __future__ import annotations

import pytest

from netsmith.plan import Block
from netsmith.search.random import RandomSearch
from netsmith.spaces.chain import ChainSpace


@pytest.fixture
def space() -> ChainSpace:
    edge = tuple(Block("mbconv", 8, 8, 4, 4, kernel=k, hidden=8) for k in (3, 5, 7))
    return ChainSpace("chain", (), (edge,) * 4, (Block("head", 8, 3, 4, 4, hidden=8),))


def test_no_arch_comes_twice_while_there_are_others(space: ChainSpace) -> None:
    search = RandomSearch(space.sample, 0)
    asked = [search.ask() for _ in range(40)]
    assert len(set(asked)) == 40


def test_it_does_not_hang_when_everything_was_asked(space: ChainSpace) -> None:
    search = RandomSearch(space.sample, 0)
    assert len({search.ask() for _ in range(400)}) == space.count() == 81
