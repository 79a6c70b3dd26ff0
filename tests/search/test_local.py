"""Local search ends in a local optimum, then starts anew."""

from __future__ import annotations

import pytest

from netsmith.arch import Arch
from netsmith.plan import Block
from netsmith.search.local import LocalSearch
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    edge = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(4))
    return ChainSpace("chain", (), (edge,) * 5, (Block("head", 8, 3, 4, 4, hidden=8),))


@pytest.mark.parametrize("seed", range(10))
def test_where_decisions_are_independent_one_descent_finds_the_optimum(space: ChainSpace, seed: int) -> None:
    """A start, then at most 15 neighbours for each of 5 decisions that has to change."""
    search = LocalSearch(space, space.sample, seed)
    for _ in range(1 + 15 * 5):
        arch = search.ask()
        search.tell(Trial(arch, {"error": float(sum(arch.choices))}))
        if sum(arch.choices) == 0:
            return
    raise AssertionError("the optimum was not found")


def test_from_a_local_optimum_it_starts_again(space: ChainSpace) -> None:
    """Everything but one far arch is equally bad."""
    search = LocalSearch(space, space.sample, 0)
    asked: list[Arch] = []
    for _ in range(40):
        asked.append(search.ask())
        search.tell(Trial(asked[-1], {"error": 1.0}))
    assert len(set(asked)) == 40
    first = asked[0].choices
    changed = [sum(a != b for a, b in zip(arch.choices, first, strict=True)) for arch in asked]
    assert changed[1:16] == [1] * 15
    assert changed[16] > 1


def test_it_asks_only_for_what_is_allowed(space: ChainSpace) -> None:
    search = LocalSearch(
        space, lambda rng: space.arch((3, 3, 3, 3, 3)), 0, allowed=lambda arch: arch.choices[0] == 3
    )
    for _ in range(12):
        arch = search.ask()
        assert arch.choices[0] == 3
        search.tell(Trial(arch, {"error": float(sum(arch.choices))}))
