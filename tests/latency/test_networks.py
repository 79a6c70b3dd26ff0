"""Networks to fit on and to check on never meet."""

from __future__ import annotations

import pytest

from netsmith.latency.networks import choose_networks
from netsmith.latency.table import network_key
from netsmith.nn.count import count_plan
from netsmith.spaces.mbconv import Stage, mbconv


def _keys(space, archs):
    return [network_key(space.plan(arch).blocks) for arch in archs]


def test_all_are_different_and_cover_the_range() -> None:
    space = mbconv((3, 32, 32), 10)
    fitted, heldout = choose_networks(space, 30, 20, seed=0)
    keys = _keys(space, [*fitted, *heldout])
    assert (len(fitted), len(heldout), len(set(keys))) == (30, 20, 50)
    costs = [count_plan(space.plan(arch)).macs for arch in fitted]
    every = [min(o, key=lambda b: b.op != "skip") for o in space.edges]
    skips = [sum(b.op == "skip" for b in space.plan(arch).blocks) for arch in fitted]
    assert {min(skips), max(skips)} == {0, sum(b.op == "skip" for b in every)}
    assert min(costs) < min(count_plan(space.plan(arch)).macs for arch in heldout)
    assert max(costs) > max(count_plan(space.plan(arch)).macs for arch in heldout)


def test_the_same_seed_chooses_the_same() -> None:
    space = mbconv((3, 16, 16), 10)
    assert choose_networks(space, 12, 8, seed=3) == choose_networks(space, 12, 8, seed=3)
    assert choose_networks(space, 12, 8, seed=3) != choose_networks(space, 12, 8, seed=4)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_small_spaces_give_a_third_to_the_check(blocks: int) -> None:
    space = mbconv((1, 8, 8), 3, stages=[Stage(8, blocks, 2)], kernels=[3, 5], expansions=[3])
    fitted, heldout = choose_networks(space, 40, 16, seed=0)
    distinct = {network_key(space.plan(space.arch(a.choices)).blocks) for a in (*fitted, *heldout)}
    assert len(distinct) == len(fitted) + len(heldout) <= space.count()
    assert len(heldout) == len(distinct) // 3
