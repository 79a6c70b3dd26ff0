"""The tree of paths that a network grew, on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netsmith.report import write_report
from netsmith.report.folder import read_folder
from netsmith.report.tree import tree
from netsmith.spaces.tree import TREE_CELL_A

Make = Callable[..., Path]
GROWN = {"layers": ["a", "<b>"], "untouched": {"stem": "it takes 1"}, "tree": TREE_CELL_A.to_dict()}


def with_tree(make_folder: Make, grown: Any) -> Path:
    folder = make_folder()
    described = json.loads((folder / "arch.json").read_text())
    (folder / "arch.json").write_text(json.dumps({**described, "grown": grown}))
    return folder


def test_every_operation_and_node_of_the_published_cell_is_drawn_in_its_own_place(make_folder: Make) -> None:
    folder = with_tree(make_folder, GROWN)
    drawn = tree(read_folder(folder))
    assert drawn is not None
    labels = [box.label for box in drawn.boxes]
    assert labels.count("layer") == 2
    assert sum(label.startswith("separable") for label in labels) == 7
    assert len(drawn.joints) == 14
    assert {joint.label for joint in drawn.joints} == {"copy", "mean", "split", "cat"}
    for box in drawn.boxes:
        assert 0 <= box.x <= drawn.width - drawn.wide
        assert drawn.tall / 2 <= box.y <= drawn.height - drawn.tall / 2
    places = [(box.x, box.y) for box in drawn.boxes]
    assert all(
        abs(one[0] - other[0]) >= drawn.wide or abs(one[1] - other[1]) >= drawn.tall
        for number, one in enumerate(places)
        for other in places[:number]
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert '<svg class="tree"' in page
    assert "convolutions; <em>layer</em> is the convolution itself" in page
    assert "<b>," not in page


@pytest.mark.parametrize(
    "node",
    [
        None, 5, {}, {"merge": "add", "branches": []},
        {"merge": "?", "branches": [{"edge": "a", "node": None}]},
        {"merge": "add", "branches": [{"edge": 1, "node": None}]}, {"merge": "add", "branches": ["a"] * 3},
    ],
)  # fmt: skip
def test_what_is_no_tree_is_not_drawn(node: Any, make_folder: Make) -> None:
    folder = with_tree(make_folder, {**GROWN, "tree": node})
    assert "nothing grew" in write_report(folder).read_text(encoding="utf-8")


def test_a_tree_deeper_than_any_is_not_drawn(make_folder: Make) -> None:
    node: Any = None
    for _ in range(2000):
        node = {"merge": "add", "branches": [{"edge": "identity", "node": node}]}
    assert tree(read_folder(with_tree(make_folder, 7))) is None
    folder = read_folder(with_tree(make_folder, GROWN))
    folder.arch["grown"]["tree"] = node
    drawn = tree(folder)
    assert drawn is not None
    assert not drawn.boxes
