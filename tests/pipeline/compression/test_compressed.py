"""A design's network with fewer channels: within its limits, the same after being killed, beside its base."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netsmith.budget import Budget
from netsmith.errors import BudgetError, FolderError, MissingExtraError, SettingsError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression import compressed
from netsmith.pipeline.compression.compressed import compression
from netsmith.pipeline.compression.pruning import Pruning
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.settings import Settings, read_toml
from tests.pipeline.stop import Stop

EPISODES = 8


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """As many walks as show what is to be shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compressed.EPISODES, "quick", EPISODES)
        yield


@pytest.fixture(scope="module")
def base(small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Design:
    """A network that was trained for long enough to have something to lose."""
    return run(small(epochs=24), tmp_path_factory.mktemp("compressed") / "base")


def compress(base: Design, out: Path, progress: Any = None, **asked: Any) -> Design:
    options = {"budget": "quick", "baselines": "none", "epochs": 8, "threads": 1, **asked}
    return run(compression(base.folder, options), out, progress=progress)


@pytest.fixture(scope="module")
def smaller(base: Design, tmp_path_factory: pytest.TempPathFactory) -> Design:
    return compress(base, tmp_path_factory.mktemp("compressed") / "amc", macs="60%", baselines="quick")


def test_the_agent_keeps_the_limit_and_stands_beside_base_and_uniform(smaller: Design, base: Design) -> None:
    result, whole = smaller.result, base.result
    assert smaller.budget_met
    assert 0.3 * whole["macs"] < result["macs"] <= 0.6 * whole["macs"]
    assert (result["strategy"], result["judge"]) == ("amc", "inherited")
    assert result["space"].startswith("pruned-")
    assert set(result["baselines"]) == {"base", "uniform"}
    assert result["baselines"]["base"]["macs"] == whole["macs"]
    assert result["baselines"]["base"]["accuracy"] == whole["accuracy"]
    assert result["baselines"]["uniform"]["macs"] <= 0.6 * whole["macs"]
    assert result["parity_worst"] <= 1e-4
    assert smaller.accuracy > 0.5
    assert smaller.module(torch.zeros(2, *base.network.plan.input_shape, dtype=torch.uint8)).shape == (
        2,
        4,
    )


def test_each_arch_is_judged_and_measured_once(smaller: Design) -> None:
    events = list(read(smaller.folder / "journal"))
    for name in ("judged", "measured"):
        digests = [e["digest"] for e in events if e["event"] == name]
        assert len(digests) == len(set(digests)) > 0
    trials = [e for e in events if e["event"] == "trial" and e["stage"] == "derive"]
    assert 0 < len(trials) <= EPISODES
    least = min(e["trial"]["figures"]["error"] for e in trials)
    best = {e["digest"] for e in trials if e["trial"]["figures"]["error"] == least}
    assert smaller.arch.digest in best


def test_the_command_that_repeats_it_is_in_the_result(smaller: Design, base: Design) -> None:
    command = smaller.result["command"]
    assert command.startswith(f"netsmith compress {base.folder} --device fake --macs ")
    assert "--seed" not in command
    page = (smaller.folder / "report.html").read_text()
    assert "with the weights that are left of the base, before any training" in page
    assert "but for the base, as it was" in page


@pytest.mark.parametrize("after", [2, EPISODES])
def test_killed_and_started_again_it_ends_alike(
    smaller: Design, base: Design, tmp_path: Path, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        compress(base, tmp_path / "killed", Stop(after), macs="60%", baselines="quick")
    again = compress(base, tmp_path / "killed", macs="60%", baselines="quick")
    assert again.arch == smaller.arch
    for name, weights in again.network.state_dict().items():
        assert torch.equal(weights, smaller.network.state_dict()[name]), name


@pytest.mark.parametrize("strategy", ["uniform", "magnitude", "knapsack", "random", "evolution"])
def test_other_ways_keep_a_limit_of_latency(strategy: str, base: Design, tmp_path: Path) -> None:
    limit = 0.8 * base.latency_ms
    design = compress(base, tmp_path / strategy, latency=limit, strategy=strategy)
    assert design.budget_met
    assert design.latency_ms <= limit
    told = [e["trial"]["figures"] for e in read(design.folder / "journal") if e["event"] == "trial"]
    assert all(
        f["latency_ms_predicted"] == pytest.approx(f["latency_ms"], rel=0.03)
        for f in told
        if "latency_ms" in f
    )
    assert design.result["macs"] < base.result["macs"]


def test_what_was_predicted_too_slow_is_looked_for_again(
    base: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = Pruning.predicted_ms
    monkeypatch.setattr(Pruning, "predicted_ms", lambda self, widths: 1.1 * predicted(self, widths))
    limit = 0.95 * base.latency_ms
    design = compress(base, tmp_path / "again", latency=limit, strategy="knapsack")
    assert 0.93 * limit < design.latency_ms <= limit


def test_what_is_left_learns_from_the_base_where_asked_to(base: Design, tmp_path: Path) -> None:
    taught, alone = (
        compress(base, tmp_path / str(teacher), macs="60%", strategy="uniform", epochs=2, teacher=teacher)
        for teacher in (True, False)
    )
    assert taught.arch == alone.arch
    weights = alone.network.state_dict()
    assert any(not torch.equal(weights[name], value) for name, value in taught.network.state_dict().items())
    assert " --teacher " in taught.result["command"]
    assert "teacher" not in alone.result["command"]


def test_a_limit_of_size_or_params_is_kept_too(base: Design, tmp_path: Path) -> None:
    design = compress(base, tmp_path / "both", params="70%", size="80%", strategy="uniform")
    assert design.result["params"] <= 0.7 * base.result["params"]
    assert design.result["size_bytes"] <= 0.8 * base.result["size_bytes"]


def test_a_point_of_its_front_is_picked(smaller: Design) -> None:
    fastest = smaller.front[0]
    picked = pick(smaller.folder, Budget(), digest=fastest["digest"])
    assert picked.arch.digest == fastest["digest"]
    assert picked.result["macs"] <= smaller.result["macs"] * 1.0001 or len(smaller.front) > 1


def test_what_is_compressed_can_be_compressed_again(smaller: Design, tmp_path: Path) -> None:
    design = compress(smaller, tmp_path / "twice", macs="80%", strategy="uniform")
    assert design.result["macs"] <= 0.8 * smaller.result["macs"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "--macs 50%"),
        ({"activations": "50%"}, "--macs 50%"),
        ({"macs": "0%"}, "over 0% and up to 100%"),
        ({"macs": "half%"}, "over 0% and up to 100%"),
        ({"latency": "50%", "device": "fake:likes=7"}, "give it in units"),
        ({"macs": "50%", "strategy": "proxyless"}, "neither proxyless nor dpp"),
        ({"macs": "50%", "space": "mbconv"}, "takes channels out"),
        ({"macs": "50%", "objectives": "error,latency"}, "finds the best network under a limit"),
        ({"macs": "50%", "width": 2.0}, "that of the base"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    asked: dict[str, Any], says: str, base: Design, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=says):
        compress(base, tmp_path / "refused", **asked)


def test_other_images_than_the_base_had_are_refused(base: Design, tmp_path: Path) -> None:
    """Of its test part some could be among what the base was trained on."""
    moved, images = tmp_path / "base", tmp_path / "others.npz"
    shutil.copytree(base.folder, moved)
    with np.load(str(read_toml(moved / "design.toml")["data"])) as stored:
        np.savez(images, images=stored["images"][::-1], labels=stored["labels"][::-1])
    settings = replace(compression(moved, {"macs": "50%", "budget": "quick"}), data=str(images))
    with pytest.raises(FolderError, match="not those that"):
        run(settings, tmp_path / "out")


def test_a_missing_agent_is_said_before_anything_is_measured(
    base: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netsmith.compress.agent.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[compress\]"):
        compress(base, tmp_path / "none", macs="60%")
    assert [e["event"] for e in read(tmp_path / "none" / "journal")] == ["started"]


def test_what_judges_nothing_takes_no_store(base: Design, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="leave --storage out"):
        compress(base, tmp_path / "refused", macs="50%", storage="trials.db")


def test_a_limit_out_of_reach_and_a_missing_base_are_refused(base: Design, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="fewest channels that may stay"):
        compress(base, tmp_path / "tiny", macs="1%", strategy="uniform")
    with pytest.raises(FolderError, match="no finished design"):
        compression(tmp_path / "nothing", {"macs": "50%"})
