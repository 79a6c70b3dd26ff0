"""The dense space holds every cell of its lengths, once each, and makes networks of them all."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError
from netsmith.nn.count import count_plan
from netsmith.plan import Layer
from netsmith.spaces.dense import CONVS, NORMS, DenseSpace, DenseStage, cell, default_stages, dense
from netsmith.testing import buildable_contract

STAGES = (DenseStage(1, 8), DenseStage(2, 16))


def small(depth: int) -> DenseSpace:
    return dense((3, 8, 8), 4, depth=depth, stages=STAGES)


def every(space: DenseSpace) -> list[Arch]:
    """All archs, level by level as they grow."""
    level, found = list(space.children(None)), []
    while level:
        found += level
        level = [child for arch in level for child in space.children(arch)]
    return found


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_passes_the_contract(depth: int) -> None:
    buildable_contract(small(depth))


@pytest.mark.parametrize("depth", [1, 2])
def test_it_holds_the_cells_of_every_length_and_no_other(depth: int) -> None:
    space, found = small(depth), set()
    for choices in product(*(range(size + 1) for size in space.sizes)):
        try:
            space.check(arch := Arch(space.id, choices))
        except ArchError:
            continue
        found.add(arch)
    assert found == set(every(space))
    assert len(every(space)) == len(found) == space.count() == {1: 18, 2: 18 + 54 + 324}[depth]
    assert len({space.encode(arch) for arch in found}) == space.count()
    assert len({space.tokens(arch) for arch in found}) == space.count()


def test_the_papers_cells_are_eighteen_to_the_number_of_pairs() -> None:
    space = dense((3, 32, 32), 10, depth=4)
    assert space.count() == sum(18**n for n in range(1, 5)) + sum(3 * 18**n for n in range(1, 4))


def test_a_cell_grows_by_three_norms_and_six_convolutions_in_turn() -> None:
    space = small(2)
    pair = space.arch((1, 5))
    assert space.describe(pair) == ("norm+relu", "1x1 learned group")
    assert space.tokens(pair) == (1, 8)
    longer = list(space.children(pair))
    assert [space.tokens(arch) for arch in longer] == [(1, 8, 1), (1, 8, 2), (1, 8, 3)]
    assert [space.tokens(arch)[3] for arch in space.children(longer[0])] == [4, 5, 6, 7, 8, 9]
    assert not list(space.children(space.arch((1, 5, 1, 6))))
    assert space.vocabulary == 9


def test_draws_are_uniform_over_all_lengths() -> None:
    """Chi-squared over 18 + 54 + 324 archs: below its mean and six deviations."""
    space, rng, draws = small(2), Random(0), 396 * 40
    counts = Counter(space.sample(rng) for _ in range(draws))
    assert len(counts) == 396
    chi = sum((count - 40) ** 2 / 40 for count in counts.values())
    assert chi < 395 + 6 * (2 * 395) ** 0.5


def test_a_neighbour_is_a_layer_away() -> None:
    space = small(2)
    lengths = Counter(len(space.tokens(arch)) for arch in space.neighbours(space.arch((1, 1, 1))))
    assert lengths == {3: 2 + 5 + 2, 2: 1, 4: 6}
    assert len(list(space.neighbours(space.arch((1, 1))))) == 2 + 5 + 3


def test_children_of_two_lengths_take_one_of_them() -> None:
    space, rng = small(3), Random(0)
    short, long = space.arch((1, 1)), space.arch((2, 2, 2, 2, 2))
    found = {space.tokens(space.cross(short, long, rng)) for _ in range(200)}
    assert {len(tokens) for tokens in found} == {2, 5}
    assert len(found) == 8
    assert all(tokens[2:] in ((), (2, 5, 2)) for tokens in found)


def test_holes_and_cells_without_a_convolution_are_no_archs() -> None:
    space = small(2)
    for choices in ((1, 0, 1, 1), (1, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0), (4, 1, 0, 0)):
        with pytest.raises(ArchError):
            space.check(Arch(space.id, choices))


def test_the_network_is_that_of_condensenet_around_the_cell() -> None:
    space = small(2)
    plan = space.plan(space.arch((1, 5, 1, 4)))
    assert [block.key for block in plan.blocks] == [
        "stem:3x8x8-16:k3s1",
        "dense:16x8x8-24[norm+relu,1x1:32/4/4,norm+relu,3x3:8/4]",
        "pool:24x8x8-24:k2s2",
        "dense:24x4x4-40[norm+relu,1x1:64/4/4,norm+relu,3x3:16/4]",
        "dense:40x4x4-56[norm+relu,1x1:64/4/4,norm+relu,3x3:16/4]",
        "classifier:56x4x4-4",
    ]


def test_a_cell_is_as_wide_as_its_rule_says() -> None:
    depthwise = ["none", "3x3 depthwise"]
    assert [str(layer) for layer in cell(["norm", "1x1", "none", "3x3", "norm+relu"], 12, 8)] == [
        "norm", "1x1:32", "3x3:8", "norm+relu",
    ]  # fmt: skip
    assert cell(depthwise, 24, 8) == (Layer("conv", 3, 24, 24), Layer("conv", 1, 8))
    assert cell(depthwise, 8, 8) == (Layer("conv", 3, 8, 8),)
    assert [str(layer) for layer in cell(["norm+relu", "1x1", *depthwise, *depthwise], 24, 8)] == [
        "norm+relu", "1x1:32", "3x3:32/32", "3x3:32/32", "1x1:8",
    ]  # fmt: skip
    # Of six channels three groups and a third of the inputs are the most that fit.
    assert cell(["none", "1x1 learned group"], 6, 9) == (Layer("conv", 1, 9, 3, 3),)


@pytest.mark.parametrize("width", [0.25, 0.6, 1.0, 1.7])
def test_every_pair_can_be_counted_at_any_width(width: int) -> None:
    space = dense((1, 16, 16), 4, width=width, depth=1)
    for arch in space.children(None):
        counts = count_plan(space.plan(arch))
        assert counts.macs > 0
        assert not counts.uncounted


def test_networks_for_28_pixels_train_on_a_small_machine() -> None:
    space, rng = dense((1, 28, 28), 10), Random(0)
    macs = sorted(count_plan(space.plan(space.sample(rng))).macs for _ in range(21))
    assert 5e6 < macs[10] < 25e6


def test_the_layout_follows_the_image() -> None:
    assert default_stages(28) == (DenseStage(3, 8), DenseStage(3, 16), DenseStage(3, 32))
    assert [len(dense((3, s, s), 10).stages) for s in (8, 16, 28, 32, 64, 224)] == [2, 2, 3, 3, 3, 5]
    assert dense((3, 224, 224), 10).stem_stride == 2
    wide = dense((3, 32, 32), 10, width=2, stages=[DenseStage(14, 8), DenseStage(14, 16), DenseStage(14, 32)])
    assert [stage.growth for stage in wide.stages] == [16, 32, 64]
    assert dense((3, 32, 32), 10).id != dense((3, 32, 32), 10, depth=2).id
    assert len(NORMS) * len(CONVS) == 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (3, 7, 8)}, "from 8x8"),
        ({"classes": 1}, "at least 2 classes"),
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"stages": []}, "stages need"),
        ({"stages": [DenseStage(0, 8)]}, "stages need"),
        ({"stages": [DenseStage(1, 8)] * 5}, "cannot be halved 4 times"),
        ({"stem_stride": 3}, "stem is 1 or 2"),
    ],
)
def test_what_cannot_be_built_says_why(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        dense(**{"input_shape": (3, 8, 8), "classes": 4, **change})  # type: ignore[arg-type]
