"""Reading a folder: what is there is checked, what is absent is absent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsmith.errors import FolderError
from netsmith.report.folder import read_folder

Make = Callable[..., Path]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_finished_folder_is_read_whole(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    assert folder.name == "fashion"
    assert folder.result["accuracy"] == 0.9364
    assert len(folder.plan) == len(folder.block_ms) == 24
    assert folder.first_choice == 2
    assert len(folder.epochs("search_epoch")) == 24


def test_an_epoch_that_was_written_twice_counts_once_with_its_last_figures(make_folder: Make) -> None:
    path = make_folder(until="search_epoch")
    with (path / "journal").open("a") as file:
        file.write(json.dumps({"event": "search_epoch", "epoch": 23, "loss": 9.0}) + "\n")
    epochs = read_folder(path).epochs("search_epoch")
    assert (len(epochs), epochs[-1]["epoch"], epochs[-1]["loss"]) == (24, 24, 9.0)


def test_a_cut_last_line_of_the_journal_is_no_damage(make_folder: Make) -> None:
    path = make_folder(until="data")
    with (path / "journal").open("a") as file:
        file.write('{"event": "rea')
    assert [event["event"] for event in read_folder(path).events] == ["started", "data"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b'{"accuracy": "high"}', b"[" * 100_000])
def test_a_damaged_result_is_an_error_that_names_the_file(make_folder: Make, content: bytes) -> None:
    path = make_folder()
    (path / "result.json").write_bytes(content)
    with pytest.raises(FolderError, match=r"result\.json is damaged"):
        read_folder(path)


@pytest.mark.parametrize(
    "values",
    [
        {"baselines": []},
        {"baselines": {"a": 3}},
        {"front": [{"latency_ms": "fast"}]},
        {"warnings": "none"},
        {"latency_ms": float("inf")},
        {"latency_ms_spread": 2},
    ],
)
def test_a_field_of_the_wrong_kind_is_damage(make_folder: Make, values: dict[str, Any]) -> None:
    path = make_folder()
    change(path / "result.json", **values)
    with pytest.raises(FolderError, match="is damaged"):
        read_folder(path)


@pytest.mark.parametrize(
    "values",
    [
        {"plan": [{"op": "conv"}]},
        {"plan": [{"op": "conv", "in_channels": "1", "out_channels": 8, "height": 8, "width": 8}]},
        {"plan": [{"op": "conv", "in_channels": 0, "out_channels": 8, "height": 8, "width": 8}]},
        {"plan": [7]},
        {"plan": {}},
        {"edges": [1]},
    ],
)
def test_a_plan_that_is_none_is_damage(make_folder: Make, values: dict[str, Any]) -> None:
    path = make_folder()
    change(path / "arch.json", **values)
    with pytest.raises(FolderError, match=r"arch\.json is damaged"):
        read_folder(path)


def test_null_is_as_good_as_absent(make_folder: Make) -> None:
    path = make_folder(peak_bytes=None, baselines=None, front=None)
    assert "baselines" not in read_folder(path).result


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no design was written there"):
        read_folder(tmp_path)
    with pytest.raises(FolderError, match="is not a folder"):
        read_folder(tmp_path / "missing")
