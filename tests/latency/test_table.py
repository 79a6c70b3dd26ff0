"""Tables are read strictly, and every difference is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from netsmith.errors import TableError
from netsmith.latency.cache import ENVIRONMENT, TableCache, cache_folder
from netsmith.latency.table import LatencyTable, Row, network_key
from netsmith.plan import Block

CONV = Block("conv", 3, 8, 16, 16, kernel=3)
MBCONV = Block("mbconv", 8, 8, 16, 16, kernel=5, hidden=24, shortcut=True)
SKIP = Block("skip", 8, 8, 16, 16)
PRINT = {"processor": "x", "runtime": "y"}


def _row(*blocks: Block, ms: float = 1.0) -> Row:
    return Row(blocks, ms, 0.9 * ms, 0.01, 30)


@pytest.fixture
def table() -> LatencyTable:
    return LatencyTable(
        PRINT,
        0.03,
        0.004,
        {CONV.key: _row(CONV), MBCONV.key: _row(MBCONV, ms=2.0)},
        {network_key((CONV, MBCONV)): _row(CONV, SKIP, MBCONV, ms=3.0)},
    )


def test_a_table_survives_json(table: LatencyTable) -> None:
    assert LatencyTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_a_table_holds_dense_layers_by_their_cells(table: LatencyTable) -> None:
    first, second = (
        Block("dense", 8, 16, 16, 16, cell=cell) for cell in ("norm+relu,1x1:8/4/4", "norm+relu,1x1:8/4")
    )
    rows = {first.key: _row(first), second.key: _row(second, ms=2.0)}
    longer = table.with_rows(rows, {network_key((first, second)): _row(first, second)})
    again = LatencyTable.from_dict(json.loads(json.dumps(longer.to_dict())))
    assert again == longer
    assert again.row(second).median_ms == 2.0
    data = json.loads(json.dumps(longer.to_dict()).replace("1x1:8/4/4", "2x2:8"))
    with pytest.raises(TableError, match="not a row"):
        LatencyTable.from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "version 99"),
        (lambda d: d.update(units="s"), "in ms"),
        (lambda d: d.pop("rows"), "damaged"),
        (lambda d: d.update(rows=[]), "damaged"),
        (lambda d: d.update(reference_ms=0), "above 0 ms"),
        (lambda d: d.update(call_ms=float("nan")), "above 0 ms"),
        (lambda d: d["rows"].update(other=d["rows"][CONV.key]), "row 'other'"),
        (lambda d: d["rows"][CONV.key].update(median_ms=-1), "latencies from 0 up"),
        (lambda d: d["rows"][CONV.key].update(blocks=[]), "needs blocks"),
        (lambda d: d["rows"][CONV.key]["blocks"][0].pop("op"), "not a row"),
        (lambda d: d["networks"].update(n=d["rows"][CONV.key]), "network 'n'"),
    ],
)
def test_damage_is_named(table: LatencyTable, change, message: str) -> None:
    data = copy.deepcopy(table.to_dict())
    change(data)
    with pytest.raises(TableError, match=message):
        LatencyTable.from_dict(data)


def test_a_missing_block_is_named(table: LatencyTable) -> None:
    other = Block("mbconv", 8, 8, 16, 16, kernel=7, hidden=24, shortcut=True)
    with pytest.raises(TableError, match=r"no block mbconv:8x16x16-8:k7s1h24\+"):
        table.row(other)
    assert table.missing([CONV, other, SKIP, other, MBCONV]) == (other,)
    assert table.row(MBCONV).median_ms == 2.0


def test_skips_do_not_name_a_network() -> None:
    assert network_key((CONV, SKIP, MBCONV)) == network_key((CONV, MBCONV)) != network_key((MBCONV, CONV))


def test_figures_scale_with_the_reference(table: LatencyTable) -> None:
    scaled = table.scaled_to(0.06)
    assert scaled.row(CONV).median_ms == 2.0
    assert scaled.call_ms == 0.008
    assert next(iter(scaled.networks.values())).low_ms == pytest.approx(5.4)
    assert scaled.row(CONV).spread == table.row(CONV).spread
    assert table.scaled_to(table.reference_ms) is table


def test_the_cache_keeps_what_two_processes_measured(table: LatencyTable, tmp_path: Path) -> None:
    first, second = TableCache(tmp_path), TableCache(tmp_path)
    assert first.load(PRINT) is None
    first.save(LatencyTable(PRINT, 0.03, 0.004, {CONV.key: table.rows[CONV.key]}))
    second.save(LatencyTable(PRINT, 0.06, 0.008, {MBCONV.key: _row(MBCONV, ms=4.0)}))
    both = first.load(PRINT)
    assert both is not None
    assert both.scaled_to(0.03).rows == table.rows
    assert first.load({**PRINT, "runtime": "z"}) is None
    assert [p.suffix for p in tmp_path.iterdir() if p.suffix != ".lock"] == [".json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"version": 7}', b"[" * 100_000])
def test_a_damaged_cache_is_rebuilt_with_a_warning(
    table: LatencyTable, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TableCache(tmp_path)
    cache.path(PRINT).write_bytes(content)
    assert cache.load(PRINT) is None
    assert "measured again" in caplog.text
    cache.save(table)
    assert cache.load(PRINT) == table


def test_a_cache_that_cannot_be_written_costs_a_warning(
    table: LatencyTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    TableCache(tmp_path / "file" / "below").save(table)
    assert "cannot be kept" in caplog.text


def test_the_cache_stands_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert cache_folder() == tmp_path
    assert TableCache().path(PRINT).parent == tmp_path / "latency"
    monkeypatch.delenv(ENVIRONMENT)
    assert "netsmith" in str(cache_folder())
