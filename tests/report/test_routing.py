"""What the page tells of paths: every figure that is there, nothing that is not, and no text runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsmith.report import write_report
from netsmith.report.folder import read_folder
from netsmith.report.routing import plots_of, read
from netsmith.report.text import TIMES

Make = Callable[..., Path]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


def routing(**changes: Any) -> dict[str, Any]:
    path = {"choices": [1, 2], "images": 60, "share": 0.6, "accuracy": 0.9, "latency_ms": 0.4,
            "latency_is": "measured"}  # fmt: skip
    dear = {**path, "images": 40, "share": 0.4, "accuracy": 0.8, "latency_ms": 0.7, "latency_is": "predicted"}
    bounds = [
        {"number": i, "figures": {"latency_ms": 0.4 + 0.1 * i}, "validation_accuracy": 0.8 + 0.03 * i}
        for i in range(3)
    ]
    example = {"label": "shirt", "predicted": "coat", "latency_ms": 0.7, "png": PNG}
    return {
        "paths_used": 2, "path_entropy_bits": 0.97, "decision_entropy_bits": 0.3, "choosing_ms": 0.05,
        "choosing_share": 0.1, "choices_differ": 1, "choices_differ_beyond_threshold": 0,
        "images_near_threshold": 3, "paths": [path, dear], "operations": [[0.6, 0.4], [1.0, 0.0]],
        "decisions": {"block 01": ["mbconv:24x14x14-24:k5s1h144+", "basic:24x14x14-24:k3s1h24"]},
        "constant": {"accuracy": 0.84, "latency_ms_predicted": 0.35},
        "single": {"accuracy": 0.85, "latency_ms_predicted": 0.5},
        "random": {"accuracy": 0.82, "accuracies": [0.82] * 3}, "bounds": bounds,
        "examples": {"cheapest": [example], "dearest": [{**example, "label": "<b>"}]}, **changes,
    }  # fmt: skip


def test_every_part_is_shown(make_folder: Make) -> None:
    folder = make_folder(routing=routing())
    told = read(read_folder(folder))
    assert told is not None
    assert [policy.accuracy for policy in told.policies] == [0.9364, 0.82, 0.84, 0.85]
    assert told.saved == pytest.approx(0.1164)
    specs = plots_of(read_folder(folder), told)
    assert specs["path-accuracy"]["data"][0]["y"] == [90, 80]  # type: ignore[index]
    assert specs["operations"]["data"][0]["z"] == [[0.6, 1.0], [0.4, 0.0]]  # type: ignore[index]
    assert specs["operations"]["data"][0]["y"] == [f"5{TIMES}5 e6", "basic"]  # type: ignore[index]
    page = write_report(folder).read_text()
    assert 'id="plot-path-accuracy"' in page
    assert "Images of the cheapest paths" in page
    assert f"data:image/png;base64,{PNG}" in page
    assert "taken for coat" in page
    assert "mean latency of test images" in page


def test_hostile_figures_show_nothing(make_folder: Make) -> None:
    bad = '"><script>alert(1)</script>'
    example = {"label": bad, "predicted": bad, "latency_ms": bad, "png": bad}
    folder = make_folder(
        routing=routing(
            paths=[bad, {"accuracy": bad}], operations=[[bad]], decisions={bad: [bad]}, bounds=bad,
            constant=bad, single=[1], random=None, examples={"cheapest": [example, 3], "dearest": bad},
        )
    )  # fmt: skip
    page = write_report(folder).read_text()
    assert "<script>alert" not in page
    assert "base64," not in page.split("<section", 1)[1].split("</main>")[0]


@pytest.mark.parametrize("absent", [None, [], "no"])
def test_a_design_of_one_path_has_no_such_part(absent: Any, make_folder: Make) -> None:
    folder = make_folder(routing=absent)
    assert read(read_folder(folder)) is None
    assert 'id="paths"' not in write_report(folder).read_text()
