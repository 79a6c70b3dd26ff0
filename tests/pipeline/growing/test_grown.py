"""Paths grown in a trained network: within limits, the same after being killed, from every kind of base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netsmith
from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.errors import BudgetError, FolderError, SettingsError, TransformError
from netsmith.journal import read
from netsmith.nn.tree import Tree
from netsmith.pipeline.answer import Design
from netsmith.pipeline.base import Base
from netsmith.pipeline.design import run
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.growing import growth, start
from netsmith.pipeline.growing.asked import from_base
from netsmith.pipeline.pick import pick
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.searching import short_training
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.train import Recipe
from tests.pipeline.stop import Stop

Make = Callable[..., Settings]
TRIALS = 3


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """As much work as shows what is to be shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(short_training.TRAININGS, "quick", TRIALS)
        patch.setitem(growth.REPAIR_EPOCHS, "quick", 1)
        patch.setattr(growth, "SETTLING_BATCHES", 1)
        patch.setattr(start, "WIDTHS", start.WIDTHS[:2])
        yield


def grow(base: Design, out: Path, progress: Any = None, **asked: Any) -> Design:
    options = {
        "base": str(base.folder), "budget": "quick", "baselines": "none", "search_epochs": 1, "epochs": 2,
        "threads": 1, **asked,
    }  # fmt: skip
    settings, _ = from_base(options)
    return run(Settings.from_mapping(settings), out, progress=progress)


@pytest.fixture(scope="module")
def base(small: Make, tmp_path_factory: pytest.TempPathFactory) -> Design:
    """A network that was trained for long enough to have something to keep."""
    return run(small(epochs=24), tmp_path_factory.mktemp("grown") / "base")


@pytest.fixture(scope="module")
def larger(base: Design, tmp_path_factory: pytest.TempPathFactory) -> Design:
    out = tmp_path_factory.mktemp("grown") / "path-level"
    return grow(base, out, latency="900%", params="400%", baselines="quick")


def trees(network: nn.Module) -> list[Tree]:
    return [module for module in network.modules() if isinstance(module, Tree)]


def test_paths_grow_within_the_limits_and_stand_beside_the_base(larger: Design, base: Design) -> None:
    result, before = larger.result, base.result
    assert larger.budget_met
    assert before["params"] <= result["params"] <= 4 * before["params"]
    assert (result["strategy"], result["judge"]) == ("path-level", "tuning")
    assert result["space"].startswith("tree-")
    assert set(result["baselines"]) == {"base", "base-trained-on"}
    assert result["baselines"]["base"]["accuracy"] == before["accuracy"]
    assert result["parity_worst"] <= 1e-4
    assert larger.accuracy > 0.5
    grown = trees(larger.network)
    assert len(grown) > 1
    pixels = torch.zeros(2, *base.network.plan.input_shape, dtype=torch.uint8)
    assert larger.module(pixels).shape == (2, 4)


def trial_of(events: list[dict[str, Any]], digest: str) -> Any:
    return next(e["trial"]["arch"] for e in events if e["event"] == "trial" and e["digest"] == digest)


def test_each_tree_is_measured_and_trained_once(larger: Design) -> None:
    events = list(read(larger.folder / "journal"))
    for name in ("known", "trained"):
        keys = [e["network"] for e in events if e["event"] == name]
        assert len(keys) == len(set(keys)) > 0
    digests = [e["digest"] for e in events if e["event"] == "trial"]
    assert len(digests) <= TRIALS + 1
    assert not any(Arch.from_dict(trial_of(events, digests[-1])).choices), "the last is the base as it is"
    for repaired in (e for e in events if e["event"] == "repaired"):
        assert repaired["after"] <= repaired["before"]


@pytest.mark.parametrize(("asked", "epochs"), [(None, 3), (1, 1), (7, 7)])
def test_a_tree_trains_for_as_long_as_was_asked_for(
    small: Make, tmp_path: Path, asked: int | None, epochs: int
) -> None:
    """Where nothing was, for 0.15 of the final training's 20 epochs at most; slower either way."""
    settings = small(epochs=20, search_epochs=asked)
    with DesignFolder(tmp_path / "it", settings) as folder:
        work = Work(folder, settings.data, Silent())
        work.read_images()
        recipe = Recipe(epochs=asked or 9, lr=0.1)
        suited = growth.Growth(work, Base(own(), digest="0" * 32)).suited(recipe)
    assert (suited.epochs, suited.lr) == (epochs, pytest.approx(0.035))


def test_its_page_draws_the_tree_and_its_command_repeats_it(larger: Design, base: Design) -> None:
    page = (larger.folder / "report.html").read_text()
    assert '<svg class="tree"' in page
    assert "after a short training that began with what the base had learned" in page
    command = larger.result["command"]
    assert f" --from {base.folder} " in command
    assert command.startswith("netsmith design ")
    assert " --strategy path-level" in command


def test_killed_and_started_again_it_ends_alike(larger: Design, base: Design, tmp_path: Path) -> None:
    asked = {"latency": "900%", "params": "400%"}
    with pytest.raises(KeyboardInterrupt):
        grow(base, tmp_path / "killed", Stop(2), **asked)
    again = grow(base, tmp_path / "killed", **asked)
    assert again.arch == larger.arch
    for name, weights in again.network.state_dict().items():
        assert torch.equal(weights, larger.network.state_dict()[name]), name


def test_a_point_of_its_front_is_picked(larger: Design) -> None:
    fastest = larger.front[0]
    picked = pick(larger.folder, Budget(), digest=fastest["digest"])
    assert picked.arch.digest == fastest["digest"]
    assert trees(picked.network)


def test_a_start_is_trained_first(small: Make, tmp_path: Path) -> None:
    asked = small(
        strategy="evolution", space="tree", base="pyramidnet", params=60_000, latency=None, stages=None,
        width=None,
    )  # fmt: skip
    design = run(asked, tmp_path / "grown")
    assert design.budget_met
    assert trees(design.network)
    events = list(read(design.folder / "journal"))
    assert {e["name"] for e in events if e["event"] == "train_epoch"} == {"base", "design"}
    assert " --base pyramidnet " in design.result["command"]
    with pytest.raises(BudgetError, match="narrowest mobilenetv2"):
        run(replace(asked, base="mobilenetv2"), tmp_path / "tight")


def own() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def test_ones_own_network_grows_too(images: Path, tmp_path: Path) -> None:
    module = own()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    options = {"device": "fake", "budget": "quick", "baselines": "none", "epochs": 2, "search_epochs": 1}
    better, design = netsmith.grow(module, str(images), params="1000%", out=tmp_path / "own", **options)
    assert len(trees(better)) == 1
    assert better(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(FolderError, match="network of your own"):
        _ = Design.load(design.folder).network
    assert "fewer than 8 channels" in (design.folder / "report.html").read_text()


def test_a_network_without_such_a_layer_is_refused(images: Path, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(TransformError, match="no layer of this network can grow"):
        netsmith.grow(flat, str(images), device="fake", params="200%", out=tmp_path / "flat")


def test_a_base_over_the_limits_is_refused(base: Design, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="before it grows"):
        grow(base, tmp_path / "tight", params="50%")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "--from FOLDER"),
        ({"base": "pyramidnet", "params": None}, "grows up to a limit"),
        ({"base": "model.onnx", "mean": 0.0, "std": 1.0}, r"--from FILE\.py:NAME"),
        ({"base": "pyramidnet", "strategy": "knapsack", "space": "tree"}, "paths grow in space"),
        ({"base": "pyramidnet", "objectives": "error,latency"}, "not a front"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], says: str, small: Make) -> None:
    others: dict[str, Any] = {"latency": None, "stages": None, "width": None, "strategy": "path-level"}
    with pytest.raises(SettingsError, match=says):
        small(**{**others, "params": "60k", **asked})
