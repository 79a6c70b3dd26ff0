"""The whole job on a fake device, whose latencies are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netsmith
from netsmith.devices.device import parse
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings, read_toml
from netsmith.plan import Plan
from netsmith.report.folder import read_folder
from netsmith.testing import FakeDevice

FILES = {
    "design.toml", "journal", "checkpoints", "arch.json", "model.safetensors", "model.onnx", "labels.json",
    "result.json", "report.html",
}  # fmt: skip
FIELDS = {
    "space", "strategy", "device", "device_fingerprint", "seed", "arch", "params", "macs", "size_bytes",
    "peak_bytes", "accuracy", "accuracy_exported", "latency_ms", "latency_ms_spread", "latency_ms_predicted",
    "latency_budget_ms", "budget_met", "search_seconds", "train_seconds", "profile_seconds", "total_seconds",
    "baselines",
}  # fmt: skip
# What is measured of this machine, or names the folder; all else follows from the settings.
OF_THE_MACHINE = {"search_seconds", "train_seconds", "profile_seconds", "total_seconds", "command"}


def settled(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in OF_THE_MACHINE}


def pixels_of(images: Path) -> np.ndarray[Any, Any]:
    with np.load(images) as held:
        return np.asarray(held["images"])[:, None]


def test_the_folder_holds_every_file_and_the_result_every_field(finished: Design) -> None:
    assert {path.name for path in finished.folder.iterdir()} >= FILES
    assert set(finished.result) >= FIELDS
    assert finished.result == json.loads((finished.folder / "result.json").read_text())


def test_the_figures_agree_with_each_other(finished: Design) -> None:
    result = finished.result
    assert abs(result["accuracy_exported"] - result["accuracy"]) <= 1 / result["test_images"]
    assert result["parity_worst"] <= 1e-4
    assert result["size_bytes"] == finished.exported.stat().st_size
    assert sum(map(sum, result["confusion"])) == result["test_images"]
    right = sum(row[i] for i, row in enumerate(result["confusion"]))
    assert right / result["test_images"] == pytest.approx(result["accuracy_exported"])
    low, high = result["latency_ms_spread"]["interval"]
    assert low <= finished.latency_ms <= high


def test_the_budget_is_met_by_what_the_device_takes(finished: Design) -> None:
    device = FakeDevice()
    assert finished.latency_ms == pytest.approx(device.cost_ms(finished.exported.read_bytes()), rel=1e-3)
    assert finished.budget_met
    assert finished.latency_ms <= finished.result["latency_budget_ms"]
    assert finished.result["latency_ms_predicted"] == pytest.approx(finished.latency_ms, rel=0.01)


def test_the_module_equals_the_exported_file_on_pixels(finished: Design, images: Path) -> None:
    pixels = pixels_of(images)[:32]
    with torch.no_grad():
        expected = finished.module(torch.from_numpy(pixels)).numpy()
    logits = parse("fake").prepare(finished.exported.read_bytes(), pixels)()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_module_is_the_arch_that_was_chosen(finished: Design) -> None:
    described = json.loads((finished.folder / "arch.json").read_text())
    plan = Plan.from_list(described["plan"])
    options = [[str(key) for key in row] for row in described["edges"]]
    chosen = [row[choice] for row, choice in zip(options, finished.arch.choices, strict=True)]
    assert [block.key for block in plan.blocks[2:-1]] == chosen
    assert finished.arch.digest in {item["digest"] for item in finished.front} | {
        record["digest"] for record in read(finished.folder / "journal") if record.get("stage") == "measure"
    }


def test_the_front_is_of_measured_archs_that_nothing_beats(finished: Design) -> None:
    latencies = [item["latency_ms"] for item in finished.front]
    accuracies = [item["validation_accuracy"] for item in finished.front]
    assert latencies == sorted(latencies)
    assert accuracies == sorted(set(accuracies))


def test_the_settings_of_the_folder_repeat_the_design(finished: Design, tmp_path: Path) -> None:
    again = Settings.from_mapping(read_toml(finished.folder / "design.toml"))
    other = run(again, tmp_path / "again")
    assert settled(other.result) == settled(finished.result)
    for name in ("model.safetensors", "model.onnx", "arch.json", "labels.json"):
        assert (other.folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_a_finished_design_is_read_and_not_done_again(finished: Design) -> None:
    before = (finished.folder / "journal").read_bytes()
    settings = Settings.from_mapping(read_toml(finished.folder / "design.toml"))
    assert run(settings, finished.folder).result == finished.result
    assert (finished.folder / "journal").read_bytes() == before


def test_every_trial_of_the_journal_is_of_validation(finished: Design) -> None:
    events = list(read(finished.folder / "journal"))
    trials = [event for event in events if event["event"] == "trial"]
    assert {trial["stage"] for trial in trials} == {"derive", "measure"}
    validation = next(event for event in events if event["event"] == "data")["validation"]
    for trial in trials:
        wrong = trial["trial"]["figures"]["error"] * validation
        assert wrong == pytest.approx(round(wrong), abs=1e-3)


class Quarters(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The same images as a PyTorch dataset."""

    def __init__(self, path: Path) -> None:
        self.pixels = torch.from_numpy(pixels_of(path))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.pixels[index], index % 4


def test_the_report_counts_epochs_from_one(finished: Design) -> None:
    epochs = {
        event: [
            e["epoch"]
            for e in read_folder(finished.folder).epochs(event)
            if e.get("name") in (None, "design")
        ]
        for event in ("search_epoch", "train_epoch")
    }
    assert epochs == {"search_epoch": [1, 2], "train_epoch": [1, 2]}


def test_a_pytorch_dataset_is_designed_for(finished: Design, images: Path, tmp_path: Path) -> None:
    asked = Settings.from_mapping(read_toml(finished.folder / "design.toml"))
    design = netsmith.design(
        Quarters(images),
        device=asked.device,
        latency_ms=0.06,
        budget=asked.budget,
        out=tmp_path / "dataset",
        stages=asked.stages,
        width=asked.width,
        search_epochs=asked.search_epochs,
        epochs=asked.epochs,
        baselines="none",
    )
    assert design.arch == finished.arch
    assert design.accuracy == finished.accuracy


def test_baselines_have_the_same_fields(small: Any, tmp_path: Path) -> None:
    design = run(small(baselines="quick", epochs=1), tmp_path / "compared")
    kinds = {network["kind"] for network in design.result["baselines"].values()}
    assert kinds == {"mobilenetv2", "random"}
    for network in design.result["baselines"].values():
        assert {"accuracy", "accuracy_exported", "latency_ms", "macs", "params", "size_bytes"} <= set(network)
        assert network["parity_worst"] <= 1e-4
    random = design.result["baselines"]["random"]
    assert random["latency_ms"] <= design.result["latency_budget_ms"]


def test_devices_of_other_costs_get_other_networks(small: Any, tmp_path: Path) -> None:
    """One device takes 7x7 kernels at a sixth of the price of 3x3, the other the other way round."""
    large = {}
    for likes in ("3", "7"):
        design = run(small(device=f"fake:likes={likes}", search_epochs=6, latency=0.05), tmp_path / likes)
        plan = Plan.from_list(json.loads((design.folder / "arch.json").read_text())["plan"])
        searched = [block for block in plan.blocks[2:-1] if block.op == "mbconv"]
        large[likes] = sum(block.kernel == 7 for block in searched) / len(searched)
    assert large["7"] > large["3"]
