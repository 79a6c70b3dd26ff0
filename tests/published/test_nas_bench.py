"""The published tables, as they are: what the papers say of them, and that spaces and rows agree."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from scipy.stats import kendalltau

from netsmith.errors import DataError, TableError
from netsmith.nn.count import count_plan
from netsmith.published.nas_bench_201 import OPERATIONS, CellSpace, read_nas_bench_201
from netsmith.published.nas_bench_macro import macro, read_nas_bench_macro
from netsmith.testing import buildable_contract, space_contract

DATA = Path(__file__).parents[3] / "shared" / "data"
MACRO = DATA / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
CELLS = DATA / "nb201" / "nb201_joined.parquet"
needs_macro = pytest.mark.skipif(not MACRO.exists(), reason="NAS-Bench-Macro is not at ../shared")
needs_cells = pytest.mark.skipif(not CELLS.exists(), reason="NAS-Bench-201 is not at ../shared")


def test_the_spaces_keep_the_contract() -> None:
    buildable_contract(macro())
    space_contract(CellSpace())


@needs_macro
def test_parameters_and_multiply_adds_of_the_macro_space_are_those_published() -> None:
    table = read_nas_bench_macro(MACRO)
    for choices, row in list(table.rows.items())[::50]:
        counts = count_plan(macro().plan(macro().arch(choices)))
        assert (counts.params, counts.macs) == (row["params"], row["macs"])
    assert table.least("error") == pytest.approx(1 - 0.9313, abs=1e-4)  # the paper's table of best archs


@needs_cells
def test_the_cells_are_all_there_and_the_best_is_the_published_one() -> None:
    pytest.importorskip("pyarrow")
    for data_set, best in (("cifar10", 94.37), ("cifar100", 73.51), ("in16", 47.31)):
        table = read_nas_bench_201(CELLS, data_set)
        assert 100 * (1 - table.least("error")) == pytest.approx(best, abs=0.005)
    none = table.rows[(OPERATIONS.index("none"),) * 6]
    assert none["error"] == pytest.approx(max(row["error"] for row in table.rows.values()))
    assert none["latency_ms_pixel3"] > 0


@needs_cells
def test_the_scores_without_training_tell_something_and_may_be_minus_infinity() -> None:
    pytest.importorskip("pyarrow")
    table = read_nas_bench_201(CELLS, "cifar100")
    errors = [row["error"] for row in table.rows.values()]
    for name in ("naswot", "logsynflow"):
        column = [table.scores[name][choices] for choices in table.rows]
        assert not any(map(math.isnan, column))
        finite = [(score, error) for score, error in zip(column, errors, strict=True) if math.isfinite(score)]
        assert kendalltau(*zip(*finite, strict=True))[0] < -0.3  # better scores, lesser errors
    assert -math.inf in table.scores["naswot"].values()


def test_what_is_not_such_a_table_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text(json.dumps({"00000000": {"mean_acc": 50.0}}))
    with pytest.raises(TableError, match="cannot be read as a published table"):
        read_nas_bench_macro(path)
    with pytest.raises(TableError, match="got 'imagenet'"):
        read_nas_bench_201(path, "imagenet")
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_nas_bench_201(path)


def test_every_arch_of_the_macro_space_grows_from_one_parent() -> None:
    space = macro()
    level, seen = list(space.children(None)), []
    assert [space.tokens(arch) for arch in level] == [()]
    for depth in range(9):
        assert all(len(space.tokens(arch)) == depth for arch in level)
        seen += level
        level = [child for arch in level for child in space.children(arch)]
    assert len(seen) == len(set(seen)) == space.count() == 3**8
    assert not level
    assert len({space.tokens(arch) for arch in seen}) == space.count()
    assert {token for arch in seen for token in space.tokens(arch)} == set(range(1, space.vocabulary + 1))
