"""The drawing follows the plan."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netsmith.plan import Block
from netsmith.report import write_report
from netsmith.report.drawing import draw, option_name
from netsmith.report.folder import read_folder
from netsmith.spaces.dense import DenseStage, dense
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed

Make = Callable[..., Path]


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (Block("mbconv", 24, 24, 14, 14, kernel=5, hidden=144, shortcut=True), "5\u00d75 e6"),
        (Block("mbconv", 24, 40, 14, 14, kernel=3, stride=2, hidden=72), "3\u00d73 e3"),
        (Block("mbconv", 24, 40, 14, 14, kernel=7, hidden=36), "7\u00d77 e1.5"),
        (Block("skip", 24, 24, 14, 14), "skip"),
    ],
)
def test_an_option_is_named_by_what_was_chosen(block: Block, name: str) -> None:
    assert option_name(block.key) == name


def test_an_option_of_an_unknown_kind_keeps_its_own_name() -> None:
    assert option_name("<script>") == "<script>"


def test_every_block_is_drawn_with_its_figures(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    drawing = draw(folder)
    assert drawing is not None
    assert [bead.block for bead in drawing.beads] == list(folder.plan)
    assert [bead.latency_ms for bead in drawing.beads] == list(folder.block_ms)
    assert sum(bead.share or 0 for bead in drawing.beads) == pytest.approx(1)
    labels = [bead.label for bead in drawing.beads]
    assert labels == ["stem", "fixed", *(str(i) for i in range(1, 22)), "head"]
    chosen = [bead for bead in drawing.beads if bead.searched]
    assert [b.skipped for b in chosen] == [b.block.op == "skip" for b in chosen]
    assert any(b.skipped for b in chosen)


def test_bands_cover_the_picture_without_gaps(make_folder: Make) -> None:
    drawing = draw(read_folder(make_folder()))
    assert drawing is not None
    ends = [band.x + band.width for band in drawing.bands]
    assert [band.x for band in drawing.bands[1:]] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(drawing.width)


def test_without_latencies_the_network_is_drawn_without_shares(make_folder: Make) -> None:
    path = make_folder()
    arch = json.loads((path / "arch.json").read_text())
    (path / "arch.json").write_text(json.dumps({"plan": arch["plan"], "latency_ms": [1.0]}))
    drawing = draw(read_folder(path))
    assert drawing is not None
    assert {(bead.share, bead.bar, bead.searched) for bead in drawing.beads} == {(None, 0.0, False)}


def test_an_expansion_is_told_to_a_tenth(make_folder: Make) -> None:
    path = make_folder()
    arch = json.loads((path / "arch.json").read_text())
    place = next(i for i, block in enumerate(arch["plan"]) if block["op"] == "mbconv")
    arch["plan"][place] |= {"in_channels": 24, "hidden": 64}
    (path / "arch.json").write_text(json.dumps(arch))
    drawing = draw(read_folder(path))
    assert drawing is not None
    assert drawing.beads[place].expansion == "2.7"


def test_a_dense_network_is_drawn_by_its_cells(make_folder: Make) -> None:
    space = dense((1, 8, 8), 4, stages=[DenseStage(2, 8), DenseStage(1, 16)])
    plan = space.plan(space.arch((1, 5, 1, 4)))
    path = make_folder()
    costs = [1.0] * len(plan.blocks)
    (path / "arch.json").write_text(json.dumps({"plan": plan.to_list(), "latency_ms": costs}))
    drawing = draw(read_folder(path))
    assert drawing is not None
    assert [bead.label for bead in drawing.beads] == ["stem", "1", "2", "pool", "3", "head"]
    assert [bead.shade for bead in drawing.beads] == ["conv", "k3", "k3", "other", "k3", "head"]
    assert [bead.hidden for bead in drawing.beads] == [0, 32, 32, 0, 64, 0]
    assert drawing.beads[1].operation == "dense: norm+relu, 1x1:32/4/4, norm+relu, 3x3:8/4"
    assert [band.text for band in drawing.bands] == ["8\u00d78", "4\u00d74", "1\u00d71"]
    assert "1x1:32/4/4" in write_report(path).read_text()


def test_a_path_of_a_routed_network_is_drawn_by_its_operations(make_folder: Make) -> None:
    space = routed((1, 8, 8), 4, width=0.5, stages=[Stage(32, 2, 2)], mbconvs=[(3, 6), (5, 3)])
    plan = space.plan(space.arch((5, 0)))
    path = make_folder()
    costs = [1.0] * len(plan.blocks)
    (path / "arch.json").write_text(json.dumps({"plan": plan.to_list(), "latency_ms": costs}))
    drawing = draw(read_folder(path))
    assert drawing is not None
    assert [bead.shade for bead in drawing.beads] == ["conv", "k3", "skip", "head"]
    assert drawing.beads[1].operation == "sum: mbconv:k3h96, basic:k3h16"
    assert drawing.beads[1].hidden == 96


def test_before_an_arch_is_chosen_there_is_nothing_to_draw(make_folder: Make) -> None:
    assert draw(read_folder(make_folder(until="profile"))) is None
