"""A network of the user's own with fewer channels: smaller, proved, the same after being killed, and nobody's
but its owner's to make."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netsmith
from netsmith.budget import Budget
from netsmith.data import load, split
from netsmith.errors import BudgetError, CompressionError, FolderError, SettingsError
from netsmith.export.onnx import write_onnx
from netsmith.journal import read
from netsmith.nn.count import count
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression import compressed
from netsmith.pipeline.compression.compressed import own_compression
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import merge, read_toml
from tests.pipeline.stop import Stop

MEAN, STD = 0.4, 0.25
QUICK: dict[str, Any] = {"device": "fake", "budget": "quick", "epochs": 2, "threads": 1, "baselines": "none"}


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ResNet(nn.Module):
    """A residual whose shortcut is a convolution, then one without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 16)
        self.first = nn.Sequential(
            conv(16, 24, stride=2), nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24)
        )
        self.shortcut = nn.Conv2d(16, 24, 1, stride=2)
        self.second = nn.Sequential(conv(24, 24), nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24))
        self.fc = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = F.relu(self.first(x) + self.shortcut(x))
        x = F.relu(self.second(x) + x)
        out: torch.Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


class MobileNet(nn.Module):
    """Depthwise convolutions, a gate of channels, and a concatenation before the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(1, 16), nn.Sequential(conv(16, 16, groups=16), conv(16, 32, 1))
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Conv2d(8, 32, 1), nn.Hardsigmoid()
        )
        self.side = conv(32, 16)
        self.fc = nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep(self.stem(x))
        x = x * self.gate(x)
        x = torch.cat([x, self.side(x)], 1)
        out: torch.Tensor = self.fc(x.mean((2, 3)))
        return out


class Vgg(nn.Sequential):
    """A chain without batch norms that is flattened: each channel is four inputs of the linear layer."""

    def __init__(self) -> None:
        layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        super().__init__(*layers, nn.Linear(96, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(compressed.EPISODES, "quick", 6)
        yield


@pytest.fixture(scope="module")
def trained(images: Path) -> Callable[[type[nn.Module]], nn.Module]:
    """Train a class's network for a moment, on images that are normalised by MEAN and STD."""
    known: dict[type[nn.Module], nn.Module] = {}

    def make(kind: type[nn.Module]) -> nn.Module:
        if kind not in known:
            train = split(load(str(images)), 0).train
            x = (train.fetch(torch.arange(len(train))).float() / 255 - MEAN) / STD
            torch.manual_seed(0)
            known[kind] = module = kind()
            optimizer = torch.optim.Adam(module.parameters(), 3e-3)
            for _ in range(25):
                loss = F.cross_entropy(module(x), train.labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            module.eval()
        return known[kind]

    return make


def prune(module: nn.Module, images: Path, out: Path, **asked: Any) -> tuple[nn.Module, Design]:
    return netsmith.prune(module, images, out=out, mean=MEAN, std=STD, **{**QUICK, **asked})


@pytest.mark.parametrize("kind", [ResNet, MobileNet, Vgg])
def test_any_network_gets_really_smaller(
    kind: type[nn.Module], trained: Callable, images: Path, tmp_path: Path
) -> None:
    module = trained(kind)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    asked = {"macs": "50%", "strategy": "uniform", "baselines": "quick" if kind is ResNet else "none"}
    small, report = prune(module, images, tmp_path, **asked)
    whole, left = count(module, (1, 8, 8)), count(small, (1, 8, 8))
    assert left.macs <= 0.5 * whole.macs
    assert (report.result["macs"], report.result["params"]) == (left.macs, left.params)
    assert report.budget_met
    assert report.result["parity_worst"] < 1e-4
    assert report.accuracy > 0.9
    for base in report.result["baselines"].values():
        assert (base["macs"], base["params"]) == (whole.macs, whole.params)
        assert base["accuracy"] == base["accuracy_exported"] > 0.9
    assert type(small) is kind
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(report.module(pixels), small((pixels / 255 - MEAN) / STD), atol=1e-4)
    assert type(netsmith.load(tmp_path, module).network) is kind


@pytest.fixture(scope="module")
def pruned(trained: Callable, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Design:
    return prune(trained(ResNet), images, tmp_path_factory.mktemp("own") / "amc", latency_ms="70%")[1]


def test_a_share_of_the_latency_is_of_what_the_network_takes_on_this_device(pruned: Design) -> None:
    (base,) = (event for event in read(pruned.folder / "journal") if event["event"] == "base")
    assert pruned.result["budget"] == {"latency_ms": pytest.approx(0.7 * base["figures"]["latency_ms"])}
    assert pruned.budget_met
    assert read_toml(pruned.folder / "design.toml")["latency"] == "70%"
    assert pruned.result["space"].startswith("widths-")


def test_the_report_shows_what_each_layer_lost(pruned: Design) -> None:
    page = (pruned.folder / "report.html").read_text()
    assert "Layer by layer" in page
    assert "shortcut" in page
    assert "they are the output" in page
    assert "drawn from the images" in page


class Heard(Silent):
    """A user who reads warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_network_that_guesses_is_told_of(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, heard = ResNet(), Heard()
    nn.init.zeros_(module.fc.weight)
    asked = {**QUICK, "macs": "1%", "strategy": "uniform"}
    with pytest.raises(BudgetError):
        run(own_compression("module", str(images), asked), tmp_path / "out", module=module, progress=heard)
    assert "right on 25.0 % of the validation images" in heard.warnings[0]
    assert "(0, 1, 2, 3)" in heard.warnings[0]


def test_killed_and_started_again_it_ends_alike(
    pruned: Design, trained: Callable, images: Path, tmp_path: Path
) -> None:
    (settings,) = merge(read_toml(pruned.folder / "design.toml"), {})
    for after in (32, 4):  # while it measures networks and walks, then while it trains
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "out", module=trained(ResNet), progress=Stop(after))
    again = run(settings, tmp_path / "out", module=trained(ResNet))
    assert again.arch == pruned.arch
    for name, weights in again.network.state_dict().items():
        assert torch.equal(weights, pruned.network.state_dict()[name]), name


def test_an_onnx_file_is_pruned_and_picked_from(trained: Callable, images: Path, tmp_path: Path) -> None:
    """The file is read again where it is needed: it holds no Python."""
    path = tmp_path / "model.onnx"
    path.write_bytes(write_onnx(trained(ResNet), (1, 8, 8)))
    asked = {**QUICK, "mean": MEAN, "std": STD, "macs": "60%", "strategy": "random"}
    design = run(own_compression(str(path), str(images), asked), tmp_path / "out")
    assert design.budget_met
    assert design.accuracy > 0.9
    macs = design.result["macs"]
    other = pick(design.folder, Budget(), digest=design.front[0]["digest"])
    assert other.result["macs"] == design.front[0]["figures"]["macs"] <= macs / 0.6
    with pytest.raises(FolderError, match=r"netsmith\.load\(folder, module\)"):
        _ = other.network


def test_python_named_by_a_folder_is_never_run(pruned: Design, tmp_path: Path) -> None:
    """What a folder says is its base may be anyone's; only a command line or a caller names Python."""
    moved = tmp_path / "moved"
    shutil.copytree(pruned.folder, moved)
    evil = tmp_path / "evil.py"
    evil.write_text("raise SystemExit('it ran')\n")
    text = (moved / "design.toml").read_text().replace("module ResNet", f"{evil}:build")
    (moved / "design.toml").write_text(text)
    (moved / "result.json").unlink()
    (settings,) = merge(read_toml(moved / "design.toml"), {})
    with pytest.raises(SettingsError, match="runs only where it is named"):
        run(settings, tmp_path / "out")
    with pytest.raises(SettingsError, match="runs only where it is named"):
        pick(pruned.folder, Budget(), digest=pruned.front[0]["digest"])


def test_what_does_not_fit_is_refused(
    trained: Callable, images: Path, pruned: Design, tmp_path: Path
) -> None:
    module = trained(ResNet)
    for asked, error, says in (
        ({"macs": "50%", "mean": (0.1, 0.2)}, SettingsError, "the images have 1"),
        ({"macs": "50%", "std": 0.0}, SettingsError, "std above 0"),
        ({"macs": "0%"}, SettingsError, "over 0% and up to 100%"),
        ({}, SettingsError, "compressed to a limit"),
        ({"macs": "1%", "strategy": "uniform"}, BudgetError, "fewest channels"),
    ):
        with pytest.raises(error, match=says):
            netsmith.prune(module, images, out=tmp_path / "refused", **{**QUICK, "mean": MEAN, **asked})
        shutil.rmtree(tmp_path / "refused", ignore_errors=True)
    with pytest.raises(CompressionError, match="the data have 4 labels"):
        prune(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), images, tmp_path / "seven", macs="50%")
    with pytest.raises(CompressionError, match=r"no channel of this network can be taken out.*the output"):
        prune(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), images, tmp_path / "one", macs="50%")


def test_a_folder_goes_on_with_its_own_network_alone(pruned: Design, images: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(pruned.folder, again)
    lines = (again / "journal").read_text().splitlines(keepends=True)
    (again / "journal").write_text("".join(line for line in lines if '"event":"result"' not in line))
    with pytest.raises(FolderError, match="its weights are others"):
        prune(ResNet(), images, again, latency_ms="70%")
