"""A file that is int8 in some layers and float32 in others: within limits, as measured, never trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from netsmith.budget import Budget
from netsmith.errors import BudgetError, FolderError, SettingsError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression import precisions
from netsmith.pipeline.compression.compressed import compression
from netsmith.pipeline.compression.mixed import int8
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.settings import Settings
from tests.pipeline.stop import Stop

pytest.importorskip("onnxruntime")  # whose quantiser it is
DEVICE = "fake:likes=3"


@pytest.fixture(scope="module", autouse=True)
def few() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(precisions.MOST, "quick", 4)
        yield


@pytest.fixture(scope="module")
def base(small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Design:
    stages = ((16, 1, 1), (24, 1, 2))
    wide = small(epochs=2, search_epochs=1, width=2.5, latency=5.0, stages=stages)
    return run(wide, tmp_path_factory.mktemp("mixed") / "base")


def chosen(base: Design, out: Path, progress: Any = None, **asked: Any) -> Design:
    options = {"device": DEVICE, "precision": "mixed", "budget": "quick", "baselines": "none", **asked}
    return run(compression(base.folder, options), out, progress=progress)


@pytest.fixture(scope="module")
def halfway(base: Design, tmp_path_factory: pytest.TempPathFactory) -> Design:
    """Between the size of the int8 file and that of the float32 one, which are some 100 and 246 kB."""
    return chosen(base, tmp_path_factory.mktemp("mixed") / "half", size="170kB", baselines="quick")


def test_the_limit_is_kept_by_a_file_of_both_precisions(halfway: Design, base: Design) -> None:
    result = halfway.result
    assert halfway.budget_met
    small, large = (result["baselines"][name]["size_bytes"] for name in ("int8", "float32"))
    assert small < result["size_bytes"] <= 170000 < large
    assert result["device"] == f"{DEVICE},precision=int8"
    assert (result["strategy"], result["judge"]) == ("programme", "file")
    found = json.loads((halfway.folder / "arch.json").read_text())["precisions"]
    assert set(found.values()) == {"int8", "float32"}
    graph = onnx.load(halfway.exported).graph
    kernels = {t.name: t.data_type for t in graph.initializer if t.name.endswith((".weight", "_quantized"))}
    for layer, precision in found.items():
        node = f"_1_{layer.replace('.', '_')}.weight"
        found = kernels.get(node, kernels.get(f"{node}_quantized"))
        assert found == {"int8": onnx.TensorProto.INT8, "float32": onnx.TensorProto.FLOAT}[precision], layer
    for name, value in base.network.state_dict().items():
        assert torch.equal(halfway.network.state_dict()[name], value), name


def test_the_file_loses_least_of_those_measured_within_the_limit(halfway: Design) -> None:
    trials = [e for e in read(halfway.folder / "journal") if e["event"] == "trial"]
    digests = [e["digest"] for e in trials]
    assert len(digests) == len(set(digests)) > 4
    within = [e["trial"] for e in trials if e["trial"]["figures"]["size_bytes"] <= 170000]
    best = min(within, key=lambda trial: trial["figures"]["loss"])
    assert best["arch"]["choices"] == list(halfway.arch.choices)


def test_killed_and_started_again_it_measures_only_what_is_missing(base: Design, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        chosen(base, tmp_path / "half", Stop(after=5), size="170kB")
    before = [e["digest"] for e in read(tmp_path / "half" / "journal") if e["event"] == "trial"]
    assert len(before) >= 4
    assert chosen(base, tmp_path / "half", size="170kB").budget_met
    after = [e["digest"] for e in read(tmp_path / "half" / "journal") if e["event"] == "trial"]
    assert after[: len(before)] == before
    assert len(after) == len(set(after))


def test_no_other_point_is_picked(halfway: Design) -> None:
    with pytest.raises(FolderError, match="--precision mixed"):
        pick(halfway.folder, Budget(size_bytes=200000))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"macs": "50%", "size": "30kB"}, "change nothing else; got macs"),
        ({"size": "30kB", "strategy": "amc"}, "'programme' or 'haq' and judge 'file' alone"),
        ({"size": "30kB", "device": "torch"}, "precision"),
        ({"strategy": "haq"}, "under limits; give it at least one"),
        ({"size": "30kB", "precision": "some"}, "precision is one of device, mixed"),
    ],
)
def test_what_does_not_go_together_is_refused(
    asked: dict[str, Any], said: str, base: Design, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=said):
        chosen(base, tmp_path / "refused", **asked)


def test_a_limit_out_of_reach_is_an_error_and_a_new_design_has_no_mixed_precision(
    base: Design, small: Callable[..., Settings], tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match="in int8 the network takes size_bytes"):
        chosen(base, tmp_path / "small", size="1kB")
    with pytest.raises(SettingsError, match="netsmith compress NETWORK --precision mixed"):
        small(precision="mixed")


def test_the_device_is_the_one_of_int8_files() -> None:
    assert int8("onnxruntime") == "onnxruntime:precision=int8"
    assert int8("openvino:threads=2") == "openvino:threads=2,precision=int8"
    assert int8("litert:threads=1,precision=int8") == "litert:threads=1,precision=int8"
