"""What a journal holds survives being killed at any byte, and damage is never taken for events."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import pytest

from netsmith import journal as journal_module
from netsmith.errors import FolderError
from netsmith.journal import Journal, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_events_are_there_the_moment_they_are_written(path: Path) -> None:
    journal = Journal(path)
    written = journal.write("epoch", number=1, loss=0.5, name="größe\n")
    assert journal.events == [written] == list(read(path)) == Journal(path).events
    assert written["event"] == "epoch"
    assert written["name"] == "größe\n"


def test_events_are_found_by_name_and_fields(path: Path) -> None:
    journal = Journal(path)
    for number in range(4):
        journal.write("epoch", number=number, even=number % 2 == 0)
    journal.write("end")
    assert [e["number"] for e in journal.all("epoch", even=True)] == [0, 2]
    last = journal.last("epoch", even=True)
    assert last is not None
    assert last["number"] == 2
    assert journal.last("epoch", number=9) is None
    assert journal.last("start") is None


def test_a_last_line_cut_at_any_byte_is_dropped_and_the_journal_goes_on(path: Path) -> None:
    journal = Journal(path)
    first = journal.write("a", value=1)
    whole = len(path.read_bytes())
    journal.write("b", text="ä")
    content = path.read_bytes()
    for end in range(whole, len(content)):
        path.write_bytes(content[:end])
        again = Journal(path)
        assert again.events == [first]
        third = again.write("c")
        assert Journal(path).events == [first, third]


@pytest.mark.parametrize(
    "damage", [b"{half", b"", b"[]", b'"text"', b"{}", b'{"event": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(path: Path, damage: bytes) -> None:
    path.write_bytes(b'{"event": "a"}\n' + damage + b'\n{"event": "b"}\n')
    with pytest.raises(FolderError, match=r"line 2 of .* is not an event"):
        Journal(path)


def test_a_full_disk_is_a_folder_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.write("a")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal_module.os, "fsync", full)
    with pytest.raises(FolderError, match=r"No space left on device; free some space"):
        journal.write("b")
    assert [e["event"] for e in journal.events] == ["a"]


def test_half_a_line_on_a_full_disk_does_not_run_into_the_next(path: Path) -> None:
    """A limit on the size of files makes the system write part of a line, as a full disk does."""
    journal = Journal(path)
    journal.write("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
    try:
        with pytest.raises(FolderError, match="cannot write to"):
            journal.write("b", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write("c")
    assert [e["event"] for e in Journal(path).events] == ["a", "c"]


def test_a_folder_in_its_place_is_a_folder_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(FolderError, match="cannot read"):
        Journal(path)


def test_a_folder_that_is_not_there_is_a_folder_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot write to"):
        Journal(tmp_path / "none" / "journal").write("a")


def test_a_journal_too_long_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_BYTES", 10)
    path.write_text(json.dumps({"event": "a"}) + "\n")
    with pytest.raises(FolderError, match="more than any design writes"):
        Journal(path)
