"""An arch is a value: equal archs have equal digests, and what is read back is what was written."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.arch import Arch
from netsmith.errors import ArchError

archs = st.builds(Arch, st.text(max_size=8), st.lists(st.integers(0, 9), max_size=6).map(tuple))


@given(archs)
def test_json_brings_back_the_same_arch(arch: Arch) -> None:
    assert Arch.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch


@given(archs, archs)
def test_digests_are_equal_exactly_for_equal_archs(first: Arch, second: Arch) -> None:
    assert (first.digest == second.digest) == (first == second)


def test_the_digest_never_changes() -> None:
    """Folders of old designs name archs by it."""
    assert Arch("mbconv-00000000", (0, 1, 2)).digest == "5468cb1bb530cdea"


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Arch("space", (1,)).space = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        {"space": "a"},
        {"space": 1, "choices": []},
        {"space": "a", "choices": "01"},
        {"space": "a", "choices": [1.0]},
        {"space": "a", "choices": [True]},
    ],
)
def test_what_is_not_an_arch_is_refused(data: Any) -> None:
    with pytest.raises(ArchError, match="got"):
        Arch.from_dict(data)
