"""Another point of the front of a design whose supernet judged it: it starts from the supernet's weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from netsmith.budget import Budget
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.pick import pick


def test_a_point_is_picked_without_searching_again(finished: Design, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished.folder, folder)
    fastest = finished.front[0]
    epochs = [e for e in read(folder / "journal") if e["event"] == "search_epoch"]
    picked = pick(folder, Budget(latency_ms=fastest["latency_ms"] * 1.001))
    assert picked.arch.digest == fastest["digest"]
    assert picked.latency_ms <= fastest["latency_ms"] * 1.001
    assert picked.result["latency_ms_predicted"] > 0
    events = list(read(folder / "journal"))
    assert [e for e in events if e["event"] == "search_epoch"] == epochs
    assert Design.load(folder).result == finished.result, "the design's own answer stays"
