"""The page of a latency model: its figures, its plots, and nothing of a name runs."""

from pathlib import Path
from typing import Any

import pytest

from netsmith.errors import FolderError
from netsmith.report import write_profile
from tests.report.test_browser import BROWSER, drawn, open_page
from tests.report.test_page import HOSTILE, Page

POINTS = [{"predicted_ms": 1.0, "measured_ms": 1.1}, {"predicted_ms": 2.0, "measured_ms": 2.1}]
HELDOUT = {
    "error": 0.0234, "rmse_ms": 0.1, "spearman": 0.987, "within_two_sd": 0.5, "points": POINTS,
    "sd_ms": [0.1, 0.2],
}  # fmt: skip
BLOCKS = [
    {"name": f"block-{k}", "kernel": k, "macs": 1000.0 * k, "alone_ms": 0.1 * k, "network_ms": 0.2 * k}
    for k in (3, 5, 7)
]


def written(path: Path, **changes: Any) -> Path:
    asked: dict[str, Any] = {
        "device": "fake", "fingerprint": {"runtime": "fake"}, "space": "mbconv-1", "seconds": 12.0,
        "correction": "0.9 S", "heldout": HELDOUT, "predictors": {"sum": HELDOUT}, "blocks": BLOCKS,
    }  # fmt: skip
    write_profile(path, **(asked | changes))
    return path


def test_every_figure_is_on_the_page(tmp_path: Path) -> None:
    page = Page(written(tmp_path / "it.html"))
    assert {0.0234, 0.987, 12.0} <= set(page.figures)
    assert [row[0] for row in page.tables["blocks"]] == ["Block", "block-7", "block-5", "block-3"]
    assert page.tables["predictors"][1][0] == "sum"
    networks = page.specs["heldout"]["data"][1]
    assert (networks["x"], networks["y"]) == ([1.0, 2.0], [1.1, 2.1])
    assert networks["error_x"]["array"] == [0.2, 0.4]
    assert [trace["name"] for trace in page.specs["costs"]["data"]] == ["kernel 3", "kernel 5", "kernel 7"]


def test_without_networks_held_out_it_says_so(tmp_path: Path) -> None:
    page = Page(written(tmp_path / "it.html", heldout={"points": []}, predictors={}))
    assert "Not checked" in page.text
    assert set(page.specs) == {"costs"}


def test_text_from_outside_is_text(tmp_path: Path) -> None:
    blocks = [{**BLOCKS[0], "name": HOSTILE}]
    path = written(tmp_path / "it.html", device=HOSTILE, fingerprint={HOSTILE: HOSTILE}, blocks=blocks)
    assert len(Page(path).scripts) == len(Page(written(tmp_path / "plain.html")).scripts)
    assert HOSTILE not in path.read_text()


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot write"):
        written(tmp_path / "none" / "it.html")


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_a_browser_draws_it_whole(tmp_path: Path) -> None:
    tree, console = open_page(written(tmp_path / "it.html"), tmp_path / "profile")
    assert console == []
    assert drawn(tree) == {"heldout", "costs"}
