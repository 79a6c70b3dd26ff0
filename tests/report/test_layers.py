"""What a compression left of each layer, on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsmith.report import write_report
from netsmith.report.folder import read_folder
from netsmith.report.layers import layers

Make = Callable[..., Path]
ROW = {"name": "stem", "kernel": [3, 5], "depthwise": False, "inputs": [3, 3], "outputs": [32, 8],
       "macs": [4000, 1000], "untouched": ""}  # fmt: skip


def with_layers(make_folder: Make, rows: Any) -> Path:
    folder = make_folder()
    described = json.loads((folder / "arch.json").read_text())
    (folder / "arch.json").write_text(json.dumps({**described, "layers": rows}))
    return folder


def test_each_layer_has_a_bar_of_its_width_filled_by_what_is_left(make_folder: Make) -> None:
    last = {**ROW, "name": "<b>fc", "kernel": [], "outputs": [16, 16], "untouched": "they are the output"}
    folder = with_layers(make_folder, [ROW, {**ROW, "name": "deep", "depthwise": True}, last])
    first, second, third = layers(read_folder(folder))
    assert (first.operation, second.operation, third.operation) == (
        "3\u00d75",
        "depthwise 3\u00d75",
        "linear",
    )
    assert (first.bar, first.fill, first.kept) == (100, 25, 0.25)
    assert (third.bar, third.fill) == (50, 50)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Layer by layer" in page
    assert "they are the output" in page
    assert "<b>fc" not in page


@pytest.mark.parametrize(
    "rows", [None, "stem", [5], [{}], [{**ROW, "macs": [1]}], [{**ROW, "outputs": ["1", None]}]]
)
def test_what_is_no_layer_is_left_out(rows: Any, make_folder: Make) -> None:
    folder = with_layers(make_folder, rows)
    assert layers(read_folder(folder)) == []
    assert "Layer by layer" not in write_report(folder).read_text(encoding="utf-8")
