"""``netsmith.quantize``: files within limits or as accurate as asked, and modules that compute the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netsmith
from netsmith.data import load, split
from netsmith.devices.device import parse
from netsmith.errors import FolderError, SettingsError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression import precisions, tuning
from netsmith.pipeline.compression.compressed import own_compression
from netsmith.pipeline.design import run
from netsmith.pipeline.networks import run_over
from tests.pipeline.stop import Stop

pytest.importorskip("onnxruntime")
MEAN, STD = 0.4, 0.25
QUICK: dict[str, Any] = {"budget": "quick", "threads": 1, "baselines": "none", "mean": MEAN, "std": STD}


def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [made, nn.BatchNorm2d(outputs), nn.ReLU()]


class Net(nn.Sequential):
    def __init__(self, labels: int = 4) -> None:
        layers = [*conv(1, 16), *conv(16, 16, groups=16), *conv(16, 48, 1), nn.AvgPool2d(2), nn.Flatten()]
        super().__init__(*layers, nn.Linear(768, 16), nn.ReLU(), nn.Linear(16, labels))


def trained(data: str, labels: int, epochs: int) -> nn.Module:
    train = split(load(data), 0).train
    x = (train.fetch(torch.arange(len(train))).float() / 255 - MEAN) / STD
    torch.manual_seed(0)
    module = Net(labels)
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(module(x[rows]), train.labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def net(images: Path) -> nn.Module:
    return trained(str(images), 4, 30)


@pytest.fixture(scope="module", autouse=True)
def few() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(precisions.MOST, "quick", 3)
        yield


def same(q: nn.Module, report: Design, images: Path) -> None:
    """The module gives what the file gives, to two steps of 255, and the same labels but for ties."""
    test = split(load(str(images)), 0).test
    pixels = test.fetch(torch.arange(len(test)))
    device = parse(report.result["device"])
    ((_, file),) = run_over(device, report.exported.read_bytes(), test)
    mine = q((pixels / 255 - MEAN) / STD).numpy()
    assert np.abs(mine - file).max() <= 2.1 * np.ptp(file) / 255
    assert (mine.argmax(1) == file.argmax(1)).mean() > 0.95


@pytest.mark.parametrize("device", ["onnxruntime", "litert"])
def test_within_a_limit_the_module_computes_what_the_file_of_both_precisions_does(
    device: str, net: nn.Module, images: Path, tmp_path: Path
) -> None:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(device, device))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    q, report = netsmith.quantize(net, images, device=device, size_bytes="60%", out=tmp_path, **QUICK)
    assert report.budget_met
    assert report.accuracy > 0.9
    (base,) = (event for event in read(tmp_path / "journal") if event["event"] == "base")
    assert base["figures"]["size_bytes"] > 4 * 13000  # a share is of the network in float32
    same(q, report, images)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_without_limits_it_is_int8_throughout_where_nothing_is_lost(
    net: nn.Module, images: Path, tmp_path: Path
) -> None:
    q, report = netsmith.quantize(net, images, out=tmp_path, **QUICK)
    assert set(json.loads((tmp_path / "arch.json").read_text())["precisions"].values()) == {"int8"}
    trials = [event for event in read(tmp_path / "journal") if event["event"] == "trial"]
    assert len(trials) == 2  # int8 and float32: nothing else was measured
    assert report.budget_met
    same(q, report, images)
    assert torch.equal(
        netsmith.load(tmp_path, net).quantized(torch.ones(1, 1, 8, 8)), q(torch.ones(1, 1, 8, 8))
    )
    again, _ = netsmith.quantize(net, images, out=tmp_path, **QUICK)
    assert torch.equal(again(torch.zeros(1, 1, 8, 8)), q(torch.zeros(1, 1, 8, 8)))


def test_without_limits_layers_stay_float32_where_int8_would_lose_more_than_it_may(
    net: nn.Module, images: Path, tmp_path: Path
) -> None:
    """Channels of the first layers that are all one step of the range of one whose weights are dead."""
    spoiled = Net()
    spoiled.load_state_dict(net.state_dict())
    with torch.no_grad():
        for norm in (spoiled[1], spoiled[4]):
            norm.bias[0] = 1e5  # what reads it has no weight for it: in float32 nothing changes
        spoiled[3].weight[0] = 0
        spoiled[6].weight[:, 0] = 0
    q, report = netsmith.quantize(spoiled, images, out=tmp_path, max_drop=0.05, **QUICK)
    found = json.loads((tmp_path / "arch.json").read_text())["precisions"]
    assert "float32" in found.values()
    figures = [e["trial"]["figures"] for e in read(tmp_path / "journal") if e["event"] == "trial"]
    int8 = figures[0]["error"]
    least = min(figure["error"] for figure in figures)
    assert 1 - report.result["validation_accuracy"] <= least + 0.05 < int8
    same(q, report, images)


@pytest.fixture(scope="module")
def uneven() -> nn.Module:
    """A network for digits whose channels are up to 128 times as large as they were, or as small.

    What reads them makes up for it: in float32 nothing changes, and in int8 the small ones are lost.
    """
    module = trained("digits", 10, 8)
    with torch.no_grad():
        for norm, reader in ((module[1], module[3]), (module[4], module[6])):
            factors = torch.exp2(torch.linspace(-7, 7, 16))
            norm.weight *= factors
            norm.bias *= factors
            reader.weight /= factors.view(-1, 1, 1, 1) if reader.groups > 1 else factors.view(1, -1, 1, 1)
    return module


def fine_tuned(
    module: nn.Module, data: str, out: Path, epochs: int, progress: Any = None
) -> tuple[Design, dict[str, Any]]:
    """Int8 throughout, whatever it loses, and then trained."""
    asked = {**QUICK, "precision": "mixed", "max_drop": 0.9, "epochs": epochs}
    report = run(own_compression("module Net", data, asked), out, module=module, progress=progress)
    (found,) = (event for event in read(out / "journal") if event["event"] == "tuned")
    return report, found


def test_straight_through_fine_tuning_betters_the_file_and_goes_on_where_it_was_killed(
    uneven: nn.Module, tmp_path: Path
) -> None:
    whole, found = fine_tuned(uneven, "digits", tmp_path / "whole", 2)
    assert found["loss"] < 0.5 * found["before"]
    assert whole.result["validation_accuracy"] == found["accuracy"]
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(uneven, "digits", tmp_path / "killed", 2, Stop(after=1))
    done = [e["epoch"] for e in read(tmp_path / "killed" / "journal") if e["event"] == "train_epoch"]
    assert len(done) == 1
    again, same_found = fine_tuned(uneven, "digits", tmp_path / "killed", 2)
    assert (same_found["loss"], same_found["accuracy"]) == (found["loss"], found["accuracy"])
    for name, value in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name


def test_what_fine_tuning_does_not_better_is_left_as_it_was(
    net: nn.Module, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruined(trained: nn.Module, base: nn.Module) -> nn.Module:
        module = copy.deepcopy(base)
        nn.init.zeros_(module[-1].weight)
        return module

    monkeypatch.setattr(tuning, "at_levels", ruined)
    report, found = fine_tuned(net, str(images), tmp_path, 1)
    assert found["loss"] >= found["before"]
    for name, value in net.state_dict().items():
        assert torch.equal(report.network.state_dict()[name], value), name


def by_agent(net: nn.Module, images: Path, out: Path, progress: Any = None) -> tuple[Design, list[str]]:
    asked = {**QUICK, "size": "60%", "precision": "mixed", "strategy": "haq"}
    report = run(own_compression("module Net", str(images), asked), out, module=net, progress=progress)
    return report, [event["digest"] for event in read(out / "journal") if event["event"] == "trial"]


def test_the_agent_goes_on_where_it_was_killed_and_comes_to_the_same_file(
    net: nn.Module, images: Path, tmp_path: Path
) -> None:
    """Sizes and losses follow from the files alone, and so does what the agent does next."""
    whole, files = by_agent(net, images, tmp_path / "whole")
    assert whole.budget_met
    assert whole.result["strategy"] == "haq"
    assert "that HAQ's agent came to" in (tmp_path / "whole" / "report.html").read_text().replace(
        "&#39;", "'"
    )
    assert 1 + 5 < len(files) <= 1 + 5 + 3
    with pytest.raises(KeyboardInterrupt):
        by_agent(net, images, tmp_path / "killed", Stop(after=1 + 5))
    again, same_files = by_agent(net, images, tmp_path / "killed")
    assert again.arch == whole.arch
    assert same_files == files


def test_what_does_not_go_together_is_refused(net: nn.Module, images: Path, tmp_path: Path) -> None:
    for asked, says in (
        ({"max_drop": 0.01, "size_bytes": "50%"}, "without limits"),
        ({"max_drop": 1.5}, "0 or more and below 1; got 1.5"),
        ({"macs": "50%"}, "change nothing else; got macs"),
    ):
        with pytest.raises(SettingsError, match=says):
            netsmith.quantize(net, images, out=tmp_path / "refused", **{**QUICK, **asked})
    with pytest.raises(SettingsError, match="--precision mixed without limits"):
        netsmith.prune(net, images, out=tmp_path / "refused", macs="50%", max_drop=0.1, **QUICK)


def test_a_design_of_float32_has_no_quantised_module(tmp_path: Path) -> None:
    (tmp_path / "arch.json").write_text("{}")
    with pytest.raises(FolderError, match="holds no int8 file"):
        _ = Design(tmp_path, {"device": "onnxruntime:threads=1", "exported": "model.onnx"}).quantized
