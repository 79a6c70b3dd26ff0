"""A design that is compressed: one budget kept, one report, the same after being killed in either part."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from netsmith.budget import Budget
from netsmith.compress import dependencies
from netsmith.devices.memory import Footprint
from netsmith.errors import BudgetError, MissingExtraError, SettingsError
from netsmith.journal import read
from netsmith.pipeline import design as job
from netsmith.pipeline import parts
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression import pruning
from netsmith.pipeline.compression.compressed import compression
from netsmith.pipeline.design import command_of, run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.searching.several import run_several
from netsmith.pipeline.settings import Settings
from netsmith.testing import FakeDevice

Make = Callable[..., Settings]
EPOCHS = 20


class StopTraining(Silent):
    """A user who presses Ctrl-C in the middle of the network's training of this number."""

    def __init__(self, number: int) -> None:
        self.left, self.training = number, False

    def stage(self, title: str) -> None:
        self.training = title == "Training the network"
        self.left -= self.training

    def update(self, done: float, total: float, note: str = "") -> None:
        if self.training and not self.left and done == 4:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer networks to fit latencies by, and no process of its own to weigh each file in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "CALIBRATED", 8)
        patch.setattr(FakeDevice, "footprint", lambda self, model: Footprint(0, len(model), 0.0))
        yield


@pytest.fixture(scope="module")
def asked(small: Make) -> Settings:
    return small(compress=True, epochs=EPOCHS, threads=1)


@pytest.fixture(scope="module")
def both(asked: Settings, tmp_path_factory: pytest.TempPathFactory) -> Design:
    """A design that was compressed from its beginning to its end; tests only read it."""
    return run(asked, tmp_path_factory.mktemp("parts") / "both")


def test_the_budget_is_kept_by_what_is_left_of_a_network_of_looser_limits(both: Design) -> None:
    result, base = both.result, both.result["baselines"]["base"]
    assert both.budget_met
    assert both.latency_ms <= 0.06 < base["latency_ms"] <= 1.5 * 0.06
    assert result["macs"] < base["macs"]
    assert (result["strategy"], result["judge"]) == ("knapsack", "inherited")
    assert both.accuracy > 0.5
    assert both.module(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 4)


def test_the_network_before_is_a_design_in_the_folder_and_in_the_report(both: Design) -> None:
    before = Design.load(both.folder / parts.PLACE)
    assert before.result["macs"] == both.result["baselines"]["base"]["macs"]
    assert before.result["budget"] == {"latency_ms": pytest.approx(0.09)}
    page = (both.folder / "report.html").read_text()
    assert 'href="before/report.html"' in page
    assert (both.folder / "before" / "report.html").is_file()
    assert "before/report.html" not in (both.folder / "before" / "report.html").read_text()
    assert both.result["total_seconds"] > before.result["total_seconds"]
    assert both.result["search_seconds"] > before.result["search_seconds"] > 0


def test_both_parts_train_for_as_many_epochs_as_one_design(both: Design) -> None:
    counts = [
        sum(event["event"] == "train_epoch" for event in read(folder / "journal"))
        for folder in (both.folder / parts.PLACE, both.folder)
    ]
    assert counts == [EPOCHS / 2, EPOCHS / 2]


def test_the_command_repeats_it(small: Make) -> None:
    whole = small(compress=True, looser=2.0, stages=None)
    assert " --compress --looser 2.0 --out" in command_of([whole], Path("out"))
    assert " --share 0.5 --out" in command_of([parts.before(whole)], Path("out/before"))


def test_finished_it_is_read_and_not_designed_again(both: Design, asked: Settings) -> None:
    journal = (both.folder / "journal").read_bytes()
    assert run(asked, both.folder).result == both.result
    assert (both.folder / "journal").read_bytes() == journal


def test_killed_in_both_parts_it_ends_alike(both: Design, asked: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    for training, designed in ((1, False), (2, True)):
        with pytest.raises(KeyboardInterrupt):
            run(asked, folder, progress=StopTraining(training))
        assert (folder / parts.PLACE / "result.json").exists() == designed
        assert not (folder / "result.json").exists()
    again = run(asked, folder)
    assert again.arch == both.arch
    assert again.result["macs"] == both.result["macs"]
    for name, weights in again.network.state_dict().items():
        assert torch.equal(weights, both.network.state_dict()[name]), name


def test_several_limits_are_kept_beside_baselines_of_as_many_epochs(small: Make, tmp_path: Path) -> None:
    settings = small(compress=True, macs=300_000, params=40_000, looser=1.25, baselines="quick")
    design = run(settings, tmp_path / "several")
    assert design.budget_met
    assert design.result["macs"] <= 300_000
    before = Design.load(design.folder / parts.PLACE)
    assert before.result["budget"] == {"latency_ms": 0.075, "macs": 375_000, "params": 50_000}
    assert before.result["baselines"] == {}
    names = set(design.result["baselines"])
    assert {"base", "uniform"} < names
    epochs = Counter(e["name"] for e in read(design.folder / "journal") if e["event"] == "train_epoch")
    assert epochs == {"design": 1, "uniform": 1, (names - {"base", "uniform"}).pop(): 2}


def test_a_point_of_its_front_is_picked_and_what_is_left_compressed_again(
    both: Design, tmp_path: Path
) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(both.folder, folder)
    picked = pick(folder, Budget(), digest=both.front[0]["digest"])
    assert picked.arch.digest == both.front[0]["digest"]
    less = run(
        compression(folder, {"macs": "80%", "strategy": "uniform", "budget": "quick", "epochs": 1}),
        tmp_path / "less",
    )
    assert less.result["macs"] <= 0.8 * both.result["macs"]


def test_what_is_asked_of_each_part(small: Make) -> None:
    whole = small(compress=True, size="10kB", memory="9MB", looser=2.0, seed=3, epochs=7, baselines="full")
    first, second = parts.before(whole), parts.after(whole, Path("out"))
    assert first.limits() == Budget(latency_ms=0.12, size_bytes=20_000, peak_bytes=9e6)
    assert second.limits() == whole.limits()
    assert (first.baselines, second.baselines) == ("none", "full")
    assert first.way == dataclasses.replace(whole, compress=False, looser=None).way
    assert second.base == str(Path("out") / parts.PLACE)
    assert first.seed == second.seed == 3
    assert first.share + second.share == 1
    assert (first.compress, second.compress) == (False, False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latency": None}, "--latency 0.5ms"),
        ({"latency": None, "memory": "9MB"}, "--latency 0.5ms"),
        ({"strategy": "instance", "stages": None, "width": None}, "space 'routed'"),
        ({"strategy": "dpp", "stages": None}, "space 'dense'"),
        ({"strategy": "evolution", "objectives": "error,latency"}, "finds no front"),
        ({"device": "table:pi.json"}, "a device that measures"),
        ({"looser": 1.0}, "over 1 and up to 10"),
        ({"looser": "2"}, "over 1 and up to 10"),
        ({"looser": 2.0, "compress": False}, "goes with --compress"),
        ({"compress": "yes"}, "true or false"),
        ({"share": 0}, "over 0 and up to 1"),
        ({"precision": "mixed"}, "netsmith compress NETWORK"),
    ],
)
def test_what_cannot_be_compressed_is_refused_at_once(
    changes: dict[str, Any], says: str, small: Make
) -> None:
    with pytest.raises(SettingsError, match=says):
        small(**{"compress": True, **changes})


def test_several_devices_are_refused(small: Make, tmp_path: Path) -> None:
    devices = [small(compress=True, device=device) for device in ("fake", "fake:likes=7")]
    with pytest.raises(SettingsError, match="one device"):
        run_several(devices, tmp_path / "two")


def test_a_missing_tool_is_found_before_anything_is_designed(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="torch-pruning"):
        run(small(compress=True), tmp_path / "bare")
    assert not (tmp_path / "bare" / parts.PLACE).exists()


def test_a_budget_out_of_reach_names_the_part_that_cannot_reach_it(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(compress=True, latency=1e-4)
    with pytest.raises(BudgetError, match=r"of the network before, at 1\.5 times the limits: no arch"):
        run(settings, tmp_path / "tiny")

    def narrow(work: object) -> None:
        raise BudgetError("with the fewest channels it costs too much")

    monkeypatch.setattr(job, "_design_before", lambda work: None)
    monkeypatch.setattr(job, "compressed_design", narrow)
    with pytest.raises(BudgetError, match=r"with a --looser under 1\.5, or without"):
        run(settings, tmp_path / "tiny")
