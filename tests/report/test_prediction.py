"""The plots of a latency model hold its figures."""

from collections.abc import Callable
from pathlib import Path

from netsmith.report import prediction
from netsmith.report.folder import read_folder

Make = Callable[..., Path]


def test_held_out_points_are_those_of_the_profile(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    found = folder.last("profile")["heldout"]
    spec = prediction.heldout(found)
    assert spec is not None
    points = found["points"]
    assert spec["data"][1]["x"] == [p["predicted_ms"] for p in points]
    assert spec["data"][1]["y"] == [p["measured_ms"] for p in points]


def test_what_was_not_measured_is_not_plotted() -> None:
    assert prediction.heldout({}) is None
    assert prediction.block_costs([]) is None
