"""A design that is killed, at any moment, goes on and ends as one that was not."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings

OF_THE_MACHINE = {"search_seconds", "train_seconds", "profile_seconds", "total_seconds", "command"}
LIMIT_S = 120.0

# What the journal holds at first when the process is killed: what is done by then, and what is going on.
MOMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bench", {}),  # finding the reach
    ("space", {}),  # profiling, and then the search
    ("search_epoch", {"epoch": 0}),  # in the middle of the search
    ("trial", {"stage": "measure"}),  # measuring what was scored best
    ("train_epoch", {"name": "design"}),  # in the middle of training
    ("verified", {}),  # trained and proved, the final figures not yet taken
)


def holds(journal: Path, event: str, match: dict[str, Any]) -> bool:
    if not journal.exists():
        return False
    return any(
        record["event"] == event and all(record.get(k) == v for k, v in match.items())
        for record in read(journal)
    )


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, "the design got nowhere"
        time.sleep(0.002)


def test_killed_again_and_again_it_ends_as_if_never_killed(
    small: Callable[..., Settings],
    finished: Design,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NETSMITH_CACHE", str(tmp_path / "cache"))  # so that there is a profile to interrupt
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["netsmith.pipeline.design"])
    folder = tmp_path / "killed"
    for event, match in MOMENTS:
        process = start.Process(target=run, args=(small(), folder))
        process.start()
        try:
            wait_for(
                lambda event=event, match=match, process=process: (  # type: ignore[misc]
                    holds(folder / "journal", event, match) or not process.is_alive()
                )
            )
        finally:
            process.kill()
            process.join()
        assert process.exitcode == -9, f"it ended before {event} with {process.exitcode}"
        assert not (folder / "result.json").exists()

    process = start.Process(target=run, args=(small(), folder))
    process.start()
    process.join(LIMIT_S)
    assert process.exitcode == 0
    again = Design.load(folder)
    assert again.arch == finished.arch
    ours, theirs = (
        {name: value for name, value in design.result.items() if name not in OF_THE_MACHINE}
        for design in (again, finished)
    )
    assert ours == theirs
    for name in ("model.safetensors", "model.onnx", "arch.json"):
        assert (again.folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_epochs_and_trials_stand_once_in_the_journal_of_a_killed_design(
    small: Callable[..., Settings], tmp_path: Path
) -> None:
    """Interrupted in this process, as a failing disk or a user would, and gone on with."""

    class InterruptError(Exception):
        pass

    class Interrupting:
        """Stops the design at the second epoch of its training."""

        title = ""

        def stage(self, title: str) -> None:
            self.title = title

        def update(self, done: float, total: float, note: str = "") -> None:
            if self.title == "Training the network":
                raise InterruptError

        def say(self, text: str) -> None: ...

        def warn(self, text: str) -> None: ...

    folder = tmp_path / "interrupted"
    with pytest.raises(InterruptError):
        run(small(), folder, progress=Interrupting())
    run(small(), folder)
    records = list(read(folder / "journal"))
    kept = [
        (r["event"], r.get("epoch"), r.get("stage"), r.get("digest"), r.get("name"))
        for r in records
        if r["event"] != "started"
    ]
    assert len(kept) == len(set(kept))
    assert sum(r["event"] == "started" for r in records) == 2
