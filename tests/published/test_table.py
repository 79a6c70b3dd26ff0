"""A published table: its optimum, its trials, and what is no such table."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError, TableError
from netsmith.published.nas_bench_201 import CellSpace
from netsmith.published.table import PublishedTable, read_whole


def table() -> PublishedTable:
    """The error of an arch is the sum of its choices."""
    space = CellSpace()
    archs = product(*map(range, space.sizes))
    return PublishedTable("sums", space, {arch: {"error": float(sum(arch))} for arch in archs})


def test_the_optimum_and_a_trial_are_the_rows() -> None:
    sums = table()
    assert sums.least("error") == 0
    arch = sums.space.sample(Random(3))
    assert sums.trial(arch).figures["error"] == sum(arch.choices)
    with pytest.raises(TableError, match="no figure 'latency_ms'; it has error"):
        sums.least("latency_ms")


def test_the_front_is_that_of_all_rows() -> None:
    space = CellSpace()
    pairs = {
        arch: {"a": float(sum(arch)), "b": float(arch[0] * 9)} for arch in product(*map(range, space.sizes))
    }
    pairs |= {(0,) * 6: {"a": 5.0, "b": -1.0}}  # the sums of 1 are beaten by none, whose b is 0 or 9
    both = PublishedTable("pairs", space, pairs)
    assert both.front(("a", "b")) == [(1.0, 0.0), (5.0, -1.0)]
    assert both.front(("a",)) == [(1.0,)]
    with pytest.raises(TableError, match="no figure 'c'; it has a, b"):
        both.front(("a", "c"))


def test_a_table_must_hold_the_whole_space() -> None:
    with pytest.raises(TableError, match="has 1 archs; its space has 15625"):
        PublishedTable("little", CellSpace(), {(0,) * 6: {"error": 0.0}})


def test_an_arch_of_another_space_is_refused() -> None:
    with pytest.raises(ArchError, match="another"):
        table().trial(Arch("another", (0,) * 6))


def test_what_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    def broken(path: Path) -> PublishedTable:
        raise KeyError("mean_acc")

    with pytest.raises(TableError, match="cannot be read"):
        read_whole(tmp_path / "nothing", broken)
    (tmp_path / "it").write_text("{}")
    with pytest.raises(TableError, match="mean_acc"):
        read_whole(tmp_path / "it", broken)
