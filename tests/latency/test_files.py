"""Tables are found, read and written whole; what is damaged says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netsmith.errors import TableError
from netsmith.latency.correction import Correction
from netsmith.latency.files import find_table, place_to_save, read_model, write_model
from netsmith.latency.heldout import HeldOut
from netsmith.latency.model import LatencyModel
from netsmith.latency.table import LatencyTable, Row
from netsmith.plan import Block

BLOCK = Block("conv", 3, 8, 8, 8, kernel=3, stride=2)
MODEL = LatencyModel(
    LatencyTable({"processor": "p"}, 0.5, 0.01, {BLOCK.key: Row((BLOCK,), 0.3, 0.2, 0.01, 20)}),
    Correction(0.1, 1.1, 0.0, {BLOCK.key: 0.05}),
    HeldOut((1.0, 2.0), (1.1, 2.0)),
)


def save(name: str) -> Path:
    path = place_to_save(name)
    write_model(path, MODEL)
    return path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NETSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def test_a_model_saved_is_read_back(tmp_path: Path) -> None:
    path = save(str(tmp_path / "mine" / "a.json"))
    assert read_model(path) == MODEL
    assert list(path.parent.iterdir()) == [path], "nothing half-written is left"


def test_a_name_stands_among_the_users_own(own: Path) -> None:
    path = save("pi")
    assert path == own / "pi.json"
    assert find_table("pi") == path
    with pytest.raises(TableError, match=r"no latency table is called 'pj'.*there is pi"):
        find_table("pj")


@pytest.mark.parametrize("name", ["../pi", "/etc/passwd", "", "pi.toml"])
def test_a_name_leads_nowhere_else(name: str, own: Path) -> None:
    with pytest.raises(TableError):
        find_table(name)
    with pytest.raises(TableError, match=r"FILE\.json or under a plain name"):
        place_to_save(name)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "\x00", "[" * 100_000])
def test_a_damaged_file_names_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TableError, match=r"cannot read the latency table .*a\.json"):
        read_model(path)


def test_a_file_that_cannot_be_written_or_found_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot write"):
        place_to_save(str(tmp_path / "file" / "a.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TableError, match="no file can be written there"):
        place_to_save(str(tmp_path / "folder.json"))
    with pytest.raises(TableError, match="cannot write"):
        write_model(tmp_path / "folder.json", MODEL)
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"
    with pytest.raises(TableError, match="there is no latency table"):
        find_table(str(tmp_path / "none.json"))


def test_the_format_names_units_and_version(tmp_path: Path) -> None:
    data = json.loads(save(str(tmp_path / "a.json")).read_text())
    assert data["version"] == 2
    assert data["table"]["units"] == "ms"
    (row,) = data["table"]["rows"].values()
    assert set(row) == {"blocks", "median_ms", "low_ms", "spread", "count"}
