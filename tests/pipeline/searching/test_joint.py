"""Architecture and precisions by one search: limits kept, proved by the file, the same after being killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from netsmith.budget import Budget
from netsmith.devices.memory import Footprint
from netsmith.errors import FolderError, SettingsError
from netsmith.journal import read
from netsmith.latency.profile import profile
from netsmith.pipeline import profiled
from netsmith.pipeline.answer import Design, read_json
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.searching import joint
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.values import floating_text
from netsmith.search.joint import Effort
from netsmith.testing import FakeDevice
from tests.pipeline.stop import Stop

Make = Callable[..., Settings]
EFFORT = Effort(many=8, few=4, rounds=1, best=3, asked=60)
LIMIT = 0.05


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """As few archs as show what is to be shown, and no process of its own to weigh each file in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(joint.EFFORTS, "quick", EFFORT)
        for module in (joint, profiled):
            patch.setattr(module, "profile", partial(profile, fit_networks=8, heldout_networks=3))
        patch.setattr(FakeDevice, "footprint", lambda self, model: Footprint(0, len(model), 0.0))
        yield


@pytest.fixture(scope="module")
def asked(small: Make) -> Settings:
    return small(
        strategy="apq", device="fake:precision=int8", latency=LIMIT, stages=((16, 1, 2), (24, 1, 2)),
        epochs=4, threads=1, baselines="quick",
    )  # fmt: skip


@pytest.fixture(scope="module")
def designed(asked: Settings, tmp_path_factory: pytest.TempPathFactory) -> Design:
    return run(asked, tmp_path_factory.mktemp("joint") / "designed")


def test_the_budget_is_kept_by_a_file_of_precisions_that_were_chosen(designed: Design) -> None:
    result = designed.result
    assert designed.budget_met
    assert designed.latency_ms <= LIMIT
    assert result["space"].startswith("joint-")
    assert (result["strategy"], result["judge"]) == ("apq", "transfer")
    assert designed.module(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 4)
    told = read_json(designed.folder / "arch.json")["precisions"]
    assert set(told.values()) <= {"int8", "float32"}
    graph = onnx.load(designed.exported).graph
    stored = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    in_int8 = sum(n.input[1] in stored for n in convolutions)
    assert in_int8 == sum(v == "int8" for k, v in told.items() if k != list(told)[-1])
    assert "Netsmith" in (designed.folder / "report.html").read_text()


def test_every_arch_is_judged_once_and_every_file_measured_once(designed: Design) -> None:
    events = list(read(designed.folder / "journal"))
    judged = [e["digest"] for e in events if e["event"] == "judged"]
    files = [e["digest"] for e in events if e["event"] == "trial"]
    assert len(judged) == len(set(judged)) <= EFFORT.many + EFFORT.best
    assert len(files) == len(set(files)) <= EFFORT.few + EFFORT.best
    best = min(
        (e["trial"] for e in events if e["event"] == "trial" and not e["trial"]["reason"]),
        key=lambda trial: trial["figures"]["error"],
    )
    assert designed.arch.to_dict() == best["arch"]


def test_the_same_network_in_one_precision_stands_beside_it(designed: Design) -> None:
    others = designed.result["baselines"]
    assert {"int8", "float32"} & set(others)
    if "float32" in others:
        assert others["float32"]["latency_ms"] > designed.latency_ms


@pytest.mark.parametrize("after", [EFFORT.many + 3])
def test_killed_and_started_again_it_ends_alike(
    designed: Design, asked: Settings, tmp_path: Path, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(asked, tmp_path / "killed", progress=Stop(after))
    again = run(asked, tmp_path / "killed")
    assert again.arch == designed.arch
    assert again.exported.read_bytes() == designed.exported.read_bytes()


def test_its_front_is_not_picked_from(designed: Design) -> None:
    with pytest.raises(FolderError, match="within other limits"):
        pick(designed.folder, Budget(), digest=designed.front[0]["digest"])


@pytest.mark.parametrize("device", ["fake", "onnxruntime:threads=1"])
def test_a_device_without_int8_is_refused(small: Make, tmp_path: Path, device: str) -> None:
    with pytest.raises(SettingsError, match="precision=int8"):
        run(small(strategy="apq", device=device), tmp_path / "refused")


def test_a_limit_of_activations_is_refused(small: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one precision"):
        run(small(strategy="apq", device="fake:precision=int8", activations="1MB"), tmp_path / "refused")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategy": "apq", "space": "mbconv"}, "chooses architecture and precisions together"),
        ({"strategy": "evolution", "space": "joint"}, "chooses architecture and precisions together"),
        ({"strategy": "apq", "objectives": "error,latency"}, "not a front"),
        ({"strategy": "apq", "storage": "trials.db"}, "leave --storage out"),
        ({"strategy": "apq", "compress": True}, "space 'mbconv'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], says: str, small: Make) -> None:
    with pytest.raises(SettingsError, match=says):
        small(**changes)


@pytest.mark.parametrize(
    ("text", "floating"),
    [
        ("onnxruntime:precision=int8", "onnxruntime"),
        ("onnxruntime:threads=2,precision=int8", "onnxruntime:threads=2"),
        ("onnxruntime:precision=int8,threads=2", "onnxruntime:threads=2"),
        ("agent://pi:7070?runtime=litert:precision=int8", "agent://pi:7070?runtime=litert"),
    ],
)
def test_the_text_of_the_device_in_float32(text: str, floating: str) -> None:
    assert floating_text(text) == floating
