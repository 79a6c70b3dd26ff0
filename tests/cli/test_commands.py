"""The commands: what goes to which stream, and with which exit status they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import netsmith as package
from netsmith.devices.device import parse
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.settings import Settings, read_toml
from netsmith.testing import FakeDevice

QUICK = (
    "--device", "fake", "--budget", "quick", "--search-epochs", "2", "--epochs", "1", "--baselines", "none",
)  # fmt: skip


def test_from_a_folder_of_images_to_a_label(
    netsmith: Callable, pictures: Path, small: Path, tmp_path: Path
) -> None:
    out = tmp_path / "design"
    ask = ("design", pictures, "--config", small, *QUICK, "--latency", "0.06ms", "--out", out)

    designed = netsmith(*ask, "--json")
    assert designed.status == 0
    assert designed.err == "", "no progress where stderr is not a terminal"
    result = json.loads(designed.out)
    assert result == json.loads((out / "result.json").read_text())
    assert result["budget_met"]
    assert result["latency_budget_ms"] == 0.06

    shown = netsmith(*ask)
    assert shown.status == 0
    assert "budget met by measurement on fake:likes=3: latency_ms 0.06" in shown.out
    assert str(out / "report.html") in shown.out.replace("\n", "")

    measured = netsmith("measure", out, "--json")
    assert measured.status == 0
    (figures,) = json.loads(measured.out)["devices"]
    assert figures["device"] == "fake:likes=3"
    assert figures["latency"]["median_ms"] == pytest.approx(result["latency_ms"])
    assert figures["size_bytes"] == result["size_bytes"]
    assert len(figures["latency"]["samples_ms"]) >= 20
    of_the_file = netsmith("measure", out / "model.onnx", "--device", "fake")
    assert "latency, median" in of_the_file.out
    two = netsmith("measure", out, "--device", "fake", "--device", "fake:likes=7", "--batch", "2", "--json")
    slower, faster = (device["latency"]["median_ms"] for device in json.loads(two.out)["devices"])
    assert slower != faster
    assert slower == pytest.approx(2 * result["latency_ms"])

    image = pictures / "sky" / "0.png"
    predicted = netsmith("predict", out, image, pictures / "ground" / "1.png", "--json")
    assert predicted.status == 0
    answers = json.loads(predicted.out)
    assert [set(answer["probabilities"]) for answer in answers] == [{"sky", "ground"}] * 2
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1)
    assert answers[0]["image"] == str(image)
    assert str(image) in netsmith("predict", out, image).out
    for bad, reason in ((out / "labels.json", "not an image"), (out / "none.png", "there is no such file")):
        refused = netsmith("predict", out, bad)
        assert refused.status == 2
        assert f"{bad}: {reason}" in refused.err

    (out / "report.html").unlink()
    assert netsmith("report", out).out.strip() == str(out / "report.html")
    assert (out / "report.html").exists()

    design = package.load(out)
    assert design.accuracy == result["accuracy"]
    assert design.predict([image])[0].probabilities == answers[0]["probabilities"]
    assert design.export(tmp_path / "m.onnx").read_bytes() == (out / "model.onnx").read_bytes()

    compress = (
        "compress",
        out,
        "--macs",
        "70%",
        "--strategy",
        "uniform",
        "--budget",
        "quick",
        "--epochs",
        "1",
    )
    shown = netsmith(*compress)
    assert shown.status == 0
    assert "compressed" in shown.out
    assert "base" in shown.out
    smaller = tmp_path / "design-compressed"
    assert json.loads((smaller / "result.json").read_text())["macs"] <= 0.7 * result["macs"]
    assert netsmith(*compress, "--json").out == (smaller / "result.json").read_text()
    refused = netsmith("compress", out, "--macs", "0.1%", "--out", tmp_path / "never")
    assert refused.status == 2

    swept = ("sweep", out, "--device", "fake", "--threads", "1,2", "--kinds", "weights", "--strengths", "0.5")
    shown = netsmith(*swept)
    assert shown.status == 0
    assert "weights-0.5" in shown.out
    assert "device 'fake' has no option 'threads'" in shown.out.replace("\n", " ")
    assert "Weight pruning over the whole network made networks" in shown.out.replace("\n", " ")
    found = tmp_path / "design-sweep"
    assert (found / "report.html").exists()
    assert netsmith(*swept, "--json").out == (found / "sweep.json").read_text()
    assert "fewest channels that may stay" in refused.err


OWN = """
from torch import nn

def build():
    first = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
    second = nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
"""


def test_a_network_of_ones_own_is_compressed(netsmith: Callable, pictures: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "mine.py", tmp_path / "out"
    source.write_text(OWN)
    ask = (
        "compress", f"{source}:build", pictures, "--device", "fake", "--macs", "50%", "--strategy", "uniform",
        "--budget", "quick", "--epochs", "1", "--mean", "0.5", "--std", "0.25", "--out", out,
    )  # fmt: skip
    shown = netsmith(*ask)
    assert shown.status == 0
    assert "compressed" in shown.out
    assert "base" in shown.out
    result = json.loads((out / "result.json").read_text())
    assert result["macs"] <= 0.5 * result["baselines"]["base"]["macs"]
    assert f"compress {source}:build {pictures} " in result["command"]
    assert "--mean 0.5 --std 0.25" in result["command"]
    assert netsmith(*ask, "--json").out == (out / "result.json").read_text()
    image = pictures / "sky" / "0.png"
    (answer,) = json.loads(netsmith("predict", out, image, "--json").out)
    assert set(answer["probabilities"]) == {"sky", "ground"}
    refused = netsmith("compress", f"{source}:build", "--macs", "50%")
    assert refused.status == 2
    assert "needs images" in refused.err
    again = netsmith("compress", out, "--macs", "50%")
    assert again.status == 2
    assert "begin with what it came from" in again.err


def test_a_budget_that_is_missed_is_status_3(
    netsmith: Callable,
    pictures: Path,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole networks take a millisecond more than the blocks and the reach said."""
    cost_ms = FakeDevice.cost_ms

    def slower(self: FakeDevice, model: bytes) -> float:
        kind = onnx.load_model_from_string(model).graph.input[0].type.tensor_type.elem_type
        return cost_ms(self, model) + (0.02 if kind == onnx.TensorProto.UINT8 else 0)

    monkeypatch.setattr(FakeDevice, "cost_ms", slower)
    monkeypatch.setenv("NETSMITH_CACHE", str(tmp_path / "cache"))
    missed = netsmith(
        "design", pictures, "--config", small, *QUICK, "--latency", "0.03ms", "--out", tmp_path / "design"
    )
    assert missed.status == 3
    assert "BUDGET MISSED" in missed.out
    assert "latency_ms" in missed.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("design", "digits", "--device", "fak"), "no device is called 'fak'"),
        (("design", "digits", "--device", "fake", "--latency", "2 parsecs"), "cannot read '2 parsecs'"),
        (("design", "digits", "--device", "fake", "--budget", "quik"), "did you mean 'quick'?"),
        (("design", "nowhere/at/all", "--device", "fake"), "nowhere/at/all"),
        (("design",), "a design needs data"),
        (("measure", "nowhere.onnx"), "there is no file or folder nowhere.onnx"),
        (("measure", __file__), "no device is known for files that end in '.py'"),
        (("agent", "--token-file", "t", "--listen", "7070"), "--listen is HOST:PORT"),
        (("agent", "--token-file", "t", "--certificate", "c.pem"), "belong together"),
        (("agent", "--token-file", __file__), "one word of 16 characters or more"),
        (("predict", "nowhere", "image.png"), "nowhere holds no result.json"),
        (("compress", "nowhere", "--macs", "50%"), "nowhere holds no result.json"),
        (("sweep", "nowhere", "--device", "fake"), "nowhere holds no result.json"),
        (("sweep", "nowhere", "--device", "fake", "--threads", "some"), "with commas between them"),
        (("compress", "nowhere.py:build", "digits", "--macs", "50%"), "there is no file nowhere.py"),
        (("compress", "nowhere.onnx", "digits", "--macs", "50%"), "cannot read nowhere.onnx"),
        (("compress", "model.pth", "digits", "--macs", "50%"), "weights_only=True"),
    ],
)
def test_what_the_user_must_mend_is_status_2_with_a_message_and_no_traceback(
    netsmith: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = netsmith(*arguments)
    assert ran.status == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_a_setting_given_twice_is_refused(netsmith: Callable, small: Path, tmp_path: Path) -> None:
    ran = netsmith("design", "digits", "--config", small, "--width", "0.5", "--out", tmp_path / "out")
    assert ran.status == 2
    assert "given both in the configuration file and as options: width" in ran.err


def test_a_second_process_on_one_folder_is_refused(tmp_path: Path) -> None:
    settings = Settings.from_mapping({"data": "digits", "device": "fake"})
    with DesignFolder(tmp_path / "out", settings):
        assert Settings.from_mapping(read_toml(tmp_path / "out" / "design.toml")) == settings
        command = [sys.executable, "-c", "from netsmith.cli import main; main()"]
        asked = ["design", "digits", "--device", "fake", "--out", str(tmp_path / "out")]
        second = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another process is designing in" in second.stderr
    assert second.stdout == ""


def test_devices_are_listed_with_their_versions(netsmith: Callable) -> None:
    listed = json.loads(netsmith("devices", "--json").out)
    assert "onnxruntime" in [device["name"] for device in listed]
    assert "onnxruntime" in netsmith("devices").out
    assert netsmith("--version").out.strip() == package.__version__


def test_a_table_is_saved_and_designed_by(netsmith: Callable, tmp_path: Path) -> None:
    asked = ("profile", "--device", "fake", "--input", "1x8x8")
    ran = netsmith(*asked, "--save", tmp_path / "mine.json", "--report", tmp_path / "mine.html")
    assert str(tmp_path / "mine.json") in ran.err
    assert "networks that it was not built from" in (tmp_path / "mine.html").read_text()
    assert all(word in ran.out for word in ("ms in a network", "sum", "corrected", "learned", "where S = "))
    device = parse(f"table:{tmp_path / 'mine.json'}")
    assert device.fingerprint() == parse("fake").fingerprint()
    for option, place in (("--save", tmp_path / "mine.txt"), ("--report", tmp_path / "no" / "mine.html")):
        refused = netsmith(*asked, option, place)
        assert refused.status == 2
        assert "FILE" in refused.err
