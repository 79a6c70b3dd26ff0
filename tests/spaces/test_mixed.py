"""Precisions are two options a layer; an arch and its float32 layers are one thing."""

from __future__ import annotations

from random import Random

import pytest

from netsmith.errors import SpaceError
from netsmith.spaces.mixed import MixedSpace
from netsmith.testing import space_contract

LAYERS = ("blocks.0.conv", "blocks.1.conv", "blocks.1.classifier")
SPACE = MixedSpace("network", LAYERS)


def test_it_keeps_the_contract_of_spaces() -> None:
    space_contract(SPACE)


def test_layers_and_archs_turn_into_each_other() -> None:
    assert SPACE.count() == 8
    rng = Random(0)
    for _ in range(20):
        arch = SPACE.sample(rng)
        assert SPACE.of(SPACE.floating(arch)) == arch
    assert SPACE.floating(SPACE.of([])) == frozenset()
    assert SPACE.floating(SPACE.of(LAYERS)) == frozenset(LAYERS)


def test_unknown_layers_none_and_twice_the_same_are_refused() -> None:
    with pytest.raises(SpaceError, match="no layer is called nothing"):
        SPACE.of(["nothing"])
    for layers in ((), ("a", "a")):
        with pytest.raises(SpaceError, match="each once"):
            MixedSpace("network", layers)
    assert len({SPACE.id, MixedSpace("network", LAYERS[:2]).id, MixedSpace("other", LAYERS).id}) == 3
