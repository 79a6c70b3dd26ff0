"""A chain space is exactly the product of its edges; what it draws and makes stays inside it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError
from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace
from netsmith.testing import buildable_contract


def options(number: int) -> tuple[Block, ...]:
    return tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 3, hidden=8) for i in range(number))


HEAD = Block("head", 8, 5, 4, 4, hidden=16)
STEM = Block("conv", 3, 8, 8, 8, kernel=3, stride=2)


@pytest.fixture
def space() -> ChainSpace:
    return ChainSpace("small", (STEM,), (options(3), options(1), options(2), options(4)), (HEAD,))


def every(space: ChainSpace) -> list[Arch]:
    return [space.arch(choices) for choices in product(*(range(len(edge)) for edge in space.edges))]


def test_it_passes_the_contract(space: ChainSpace) -> None:
    buildable_contract(space)


def test_count_and_codes_by_enumeration(space: ChainSpace) -> None:
    archs = every(space)
    assert space.count() == len(archs) == len(set(archs)) == 24
    codes = {space.encode(arch) for arch in archs}
    assert len(codes) == 24
    assert {len(code) for code in codes} == {10}
    assert {sum(code) for code in codes} == {4.0}
    assert space.encode(space.arch((2, 0, 1, 0))) == (0, 0, 1, 1, 0, 1, 1, 0, 0, 0)
    assert len({space.plan(arch) for arch in archs}) == 24


def test_draws_are_uniform(space: ChainSpace) -> None:
    rng, draws = Random(0), 24_000
    seen = Counter(space.sample(rng) for _ in range(draws))
    assert len(seen) == 24
    chi2 = sum((n - draws / 24) ** 2 / (draws / 24) for n in seen.values())
    assert chi2 < 49.7  # 0.999 quantile of chi-square with 23 degrees of freedom


def test_the_same_seed_draws_the_same_archs(space: ChainSpace) -> None:
    first, second = Random(7), Random(7)
    assert [space.sample(first) for _ in range(20)] == [space.sample(second) for _ in range(20)]


def test_a_mutant_always_differs_and_every_arch_can_be_reached(space: ChainSpace) -> None:
    rng, start = Random(1), space.arch((1, 0, 1, 2))
    changed = Counter[int]()
    reached = set()
    for _ in range(6000):
        mutant = space.mutate(start, rng)
        space.check(mutant)
        assert mutant != start
        reached.add(mutant)
        changed[sum(a != b for a, b in zip(mutant.choices, start.choices, strict=True))] += 1
    # One decision for sure, each of the two others with probability 1/3.
    for number, share in ((1, 4 / 9), (2, 4 / 9), (3, 1 / 9)):
        assert changed[number] / 6000 == pytest.approx(share, abs=0.03)
    assert len(reached) == 23


def test_a_space_of_one_arch_has_no_mutant() -> None:
    space = ChainSpace("one", (), (options(1),), (HEAD,))
    arch = space.arch((0,))
    assert space.mutate(arch, Random(0)) == arch


def test_a_child_takes_each_decision_from_its_parents_alike(space: ChainSpace) -> None:
    rng = Random(2)
    first, second = space.arch((0, 0, 0, 3)), space.arch((2, 0, 1, 1))
    seen = Counter(space.cross(first, second, rng).choices for _ in range(4000))
    assert set(seen) == set(product((0, 2), (0,), (0, 1), (3, 1)))
    assert all(n / 4000 == pytest.approx(1 / 8, abs=0.025) for n in seen.values())


def test_a_plan_is_the_stem_the_chosen_blocks_and_the_head(space: ChainSpace) -> None:
    plan = space.plan(space.arch((2, 0, 1, 3)))
    assert [b.kernel for b in plan.blocks] == [3, 7, 3, 5, 9, 1]
    assert plan.input_shape == space.input_shape == (3, 8, 8)
    assert plan.classes == 5
    assert len(space.blocks) == 1 + 4 + 1


def test_the_identifier_follows_from_the_blocks_and_never_changes(space: ChainSpace) -> None:
    """Folders of old designs hold it."""
    assert space.id == "small-421c90ca"
    other = ChainSpace("small", (STEM,), (options(3), options(1), options(2), options(3)), (HEAD,))
    assert other.id != space.id


def test_json_brings_an_arch_back(space: ChainSpace) -> None:
    for arch in every(space):
        again = Arch.from_dict(json.loads(json.dumps(arch.to_dict())))
        space.check(again)
        assert again == arch


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((0, 0, 0), "4 decisions; the arch has 3"),
        ((0, 0, 0, 0, 0), "4 decisions; the arch has 5"),
        ((3, 0, 0, 0), r"decision 0 is one of 0\.\.2; got 3"),
        ((0, 0, 0, -1), r"decision 3 is one of 0\.\.3; got -1"),
    ],
)
def test_what_is_not_a_point_is_refused(space: ChainSpace, choices: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArchError, match=message):
        space.arch(choices)


def test_an_arch_of_another_space_is_refused_everywhere(space: ChainSpace) -> None:
    mine, foreign, rng = space.arch((0, 0, 0, 0)), Arch("other-1", (0, 0, 0, 0)), Random(0)
    for use in (
        lambda: space.check(foreign),
        lambda: space.plan(foreign),
        lambda: space.encode(foreign),
        lambda: space.mutate(foreign, rng),
        lambda: space.cross(mine, foreign, rng),
        lambda: space.cross(foreign, mine, rng),
    ):
        with pytest.raises(ArchError, match="of space 'other-1', not of this space"):
            use()


def test_chains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpaceError, match="at least one edge"):
        ChainSpace("s", (), (), (HEAD,))
    with pytest.raises(SpaceError, match="at least one edge"):
        ChainSpace("s", (), (options(2), ()), (HEAD,))
    with pytest.raises(SpaceError, match="options of edge 0 differ in their shapes"):
        ChainSpace("s", (), ((Block("skip", 8, 8, 4, 4), Block("mbconv", 8, 9, 4, 4)),), (HEAD,))
    with pytest.raises(SpaceError, match="options of edge 0 are not distinct"):
        ChainSpace("s", (), (options(2) + options(1),), (HEAD,))
    with pytest.raises(SpaceError, match=r"takes .* but the block before it"):
        ChainSpace("s", (), (options(2),), (Block("head", 16, 5, 4, 4, hidden=16),))
    with pytest.raises(SpaceError, match=r"takes .* but the block before it"):
        ChainSpace("s", (STEM,), ((Block("skip", 8, 8, 8, 8),),), ())
