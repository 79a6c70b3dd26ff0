"""Networks with fewer channels: shapes that fit, one arch a network, and the base where nothing goes."""

from __future__ import annotations

from random import Random

import pytest

from netsmith.errors import SpaceError
from netsmith.nn.count import count_plan
from netsmith.plan import Block, Plan
from netsmith.spaces.pruned import Narrowing, PrunedSpace, WidthSpace
from netsmith.testing import buildable_contract

# A stem, a block that does not expand, one that does, two joined by a shortcut, a skip, and the head.
BASE = Plan((
    Block("conv", 3, 16, 16, 16, kernel=3),
    Block("mbconv", 16, 12, 16, 16, kernel=3, hidden=16),
    Block("mbconv", 12, 20, 16, 16, kernel=5, stride=2, hidden=36),
    Block("mbconv", 20, 20, 8, 8, kernel=3, hidden=60, shortcut=True),
    Block("skip", 20, 20, 8, 8),
    Block("head", 20, 5, 8, 8, hidden=40),
))  # fmt: skip


def space() -> PrunedSpace:
    return PrunedSpace(
        BASE,
        (
            Narrowing("stem", (8, 12, 16), ((0, "out_channels"),)),
            Narrowing("first", (4, 8, 12), ((1, "out_channels"),)),
            Narrowing("inside", (8, 12, 24, 36), ((2, "hidden"),)),
            Narrowing("joined", (8, 16, 20), ((2, "out_channels"), (3, "out_channels"))),
            Narrowing("head", (16, 40), ((5, "hidden"),)),
        ),
    )


def test_it_passes_the_contract() -> None:
    buildable_contract(space())


def test_the_widest_arch_is_the_base() -> None:
    assert space().plan(space().nearest({})) == BASE
    assert space().widths(space().nearest({})) == {
        "stem": 16,
        "first": 12,
        "inside": 36,
        "joined": 20,
        "head": 40,
    }


def test_widths_show_wherever_their_channels_are() -> None:
    arch = space().nearest({"stem": 8, "first": 4, "inside": 24, "joined": 16, "head": 16})
    blocks = space().plan(arch).blocks
    assert [(b.in_channels, b.out_channels, b.hidden) for b in blocks] == [
        (3, 8, 0), (8, 4, 8), (4, 16, 24), (16, 16, 60), (16, 16, 0), (16, 5, 16),
    ]  # fmt: skip
    assert [b.shortcut for b in blocks] == [b.shortcut for b in BASE.blocks]


def test_a_block_that_expands_always_does() -> None:
    """As wide inside as what it takes it would be read as one that does not, and have other weights."""
    alike = space().nearest({"first": 8, "inside": 8})
    assert space().widths(alike) == {"stem": 16, "first": 8, "inside": 12, "joined": 20, "head": 40}
    rng = Random(0)
    for _ in range(200):
        arch = space().sample(rng)
        block = space().plan(arch).blocks[2]
        assert block.hidden != block.in_channels
        assert space().plan(arch).blocks[1].hidden == space().plan(arch).blocks[1].in_channels


def test_fewer_channels_never_cost_more() -> None:
    rng = Random(1)
    for _ in range(50):
        arch = space().sample(rng)
        narrower = space().arch(tuple(max(0, choice - 1) for choice in arch.choices))
        assert count_plan(space().plan(narrower)).macs <= count_plan(space().plan(arch)).macs


def test_what_holds_nothing_is_refused() -> None:
    for groups in ((), (Narrowing("none", (), ()),), (Narrowing("back", (8, 4), ()),)):
        with pytest.raises(SpaceError, match="ascending"):
            PrunedSpace(BASE, groups)


def test_a_network_without_a_plan_has_the_same_decisions_and_widths() -> None:
    planned = space()
    plain = WidthSpace("digest", planned.groups)
    assert plain.decisions == planned.decisions
    assert plain.count() == planned.count() == 3 * 3 * 4 * 3 * 2
    arch = plain.nearest({"stem": 9, "inside": 30})
    assert plain.widths(arch) == {"stem": 8, "first": 12, "inside": 24, "joined": 20, "head": 40}
    assert plain.encode(arch) == planned.encode(planned.arch(arch.choices))
    assert len({plain.id, WidthSpace("other", planned.groups).id, planned.id}) == 3
    with pytest.raises(SpaceError, match="needs groups of channels"):
        WidthSpace("digest", ())
