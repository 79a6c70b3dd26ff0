"""A sweep of a small design: every point measured or with its reason, each thing once, killed and gone on."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from markupsafe import escape
from onnx import numpy_helper

from netsmith.compress.weights import Sparsity, prunable
from netsmith.devices.memory import Footprint
from netsmith.errors import CompressionError, DeviceError, FolderError, SettingsError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.sweeping import sweep as sweeping
from netsmith.pipeline.sweeping.grid import File, Grid, Variant
from netsmith.pipeline.sweeping.sweep import run_sweep
from netsmith.pipeline.values import device_text
from tests.pipeline.stop import Stop

# Both take precisions, ONNX Runtime alone takes threads.
GRID = Grid(("fake", "onnxruntime"), (1, 2), ("weights", "pattern", "channels", "both"), (0.0, 0.5, 0.7))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[list[str]]:
    """Figures of memory that follow from the file, in no process of its own, and short timings."""
    asked: list[str] = []

    def footprint(device: Any, model: bytes) -> Footprint:
        asked.append(device.name)
        return Footprint(3 * len(model), len(model), 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("netsmith.devices.local.footprint_here", footprint)
        patch.setattr(sweeping, "POINT_LIMIT_S", 0.05)
        patch.setattr("netsmith.pipeline.calibration.FIRST_CALIBRATIONS", 1)
        yield asked


@pytest.fixture(scope="module")
def base(small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Design:
    """A network that was trained for long enough to have something to lose."""
    return run(small(epochs=24), tmp_path_factory.mktemp("sweeps") / "base")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps") / "sweep"


@pytest.fixture(scope="module")
def found(base: Design, out: Path) -> dict[str, Any]:
    return run_sweep(base.folder, GRID, out, epochs=4)


def point(found: dict[str, Any], network: str, runtime: str = "fake", **asked: Any) -> dict[str, Any]:
    wanted = {"network": network, "runtime": runtime, "precision": "float32", "threads": 1, **asked}
    (one,) = [p for p in found["points"] if {name: p[name] for name in wanted} == wanted]
    return one


def test_every_combination_is_a_point_with_figures_or_a_reason(found: dict[str, Any]) -> None:
    names = ["whole", *(f"{k}-{s}" for k, s in product(GRID.kinds, (0.5, 0.7)))]
    keys = [(p["network"], p["runtime"], p["precision"], p["threads"]) for p in found["points"]]
    every = product(names, GRID.runtimes, ("float32", "int8"), (1, 2))
    assert sorted(keys) == sorted(every)
    for p in found["points"]:
        refused = p["network"] == "pattern-0.7" or (p["runtime"] == "fake" and p["threads"] == 2)
        assert bool(p["reason"]) == refused, p
        assert ("latency_ms" in p) == (not refused)
    assert "no pattern n:m" in point(found, "pattern-0.7")["reason"]
    assert "has no option 'threads'" in point(found, "whole", threads=2)["reason"]


def test_strengths_are_the_shares_that_they_say(found: dict[str, Any], base: Design) -> None:
    networks = {n["network"]: n for n in found["networks"]}
    whole = networks["whole"]
    assert whole["macs"] == base.result["macs"]
    assert whole["zeros"] == 0
    for strength in (0.5, 0.7):
        assert 0.8 * (1 - strength) < networks[f"channels-{strength}"]["macs"] / whole["macs"] <= 1 - strength
        assert networks[f"channels-{strength}"]["zeros"] == 0
        assert networks[f"both-{strength}"]["macs"] == networks[f"channels-{strength}"]["macs"]
        may_go = sum(w.numel() for w in prunable(base.network, Sparsity(strength)).values())
        weights = sum(w.numel() for w in base.network.parameters() if w.ndim > 1)
        assert networks[f"weights-{strength}"]["zeros"] == int(strength * may_go) / weights
        assert 0 < networks[f"both-{strength}"]["zeros"] < strength
    assert networks["weights-0.5"]["macs"] == whole["macs"]
    assert networks["pattern-0.5"]["pattern"] == "2:4"
    assert {n["epochs"] for n in found["networks"] if not n["reason"]} == {4}


def test_zeros_are_in_the_files_which_are_what_was_measured(found: dict[str, Any], out: Path) -> None:
    whole, pruned = (point(found, name, "onnxruntime") for name in ("whole", "weights-0.7"))
    for p in (whole, pruned, point(found, "weights-0.7", "onnxruntime", precision="int8")):
        model = (out / p["file"]).read_bytes()
        assert len(model) == p["size_bytes"]
        assert len(gzip.compress(model, 9, mtime=0)) == p["stored_bytes"]
        assert p["peak_bytes"] == 3 * len(model)
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string((out / pruned["file"]).read_bytes()).graph.initializer
        if len(tensor.dims) > 1
    ]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
    assert zeros == pytest.approx(pruned["zeros"], abs=0.02)
    assert pruned["stored_bytes"] < 0.75 * whole["stored_bytes"]
    assert pruned["size_bytes"] == pytest.approx(whole["size_bytes"], rel=0.01)


def test_on_the_device_of_known_times_zeros_gain_nothing_and_channels_do(
    found: dict[str, Any], out: Path
) -> None:
    whole = point(found, "whole")["latency_ms"]
    assert point(found, "weights-0.7")["latency_ms"] == pytest.approx(whole)
    assert point(found, "channels-0.7")["latency_ms"] < 0.8 * whole
    assert point(found, "whole", precision="int8")["latency_ms"] < whole
    gains = found["finding"]["gains"]
    assert set(gains) == {"weights", "pattern", "channels", "both", "int8", "threads"}
    assert gains["threads"]["points"] == 2 * 8
    assert gains["int8"]["points"] == 3 * 8
    page = (out / "report.html").read_text()
    assert "Every point" in page
    for paragraph in found["finding"]["text"]:
        assert str(escape(paragraph)) in page


def test_started_again_it_does_nothing_twice(
    found: dict[str, Any], base: Design, out: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events, footprints = list(read(out / "journal")), len(quick)
    for name, key in (("network", ("network",)), ("file", ("file",)), ("memory", ("file", "threads"))):
        keys = [tuple(e[k] for k in key) for e in events if e["event"] == name]
        assert len(keys) == len(set(keys)) > 0

    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError("nothing is left to do")

    for name in ("train_network", "export_network", "test_exported", "time_in_turn"):
        monkeypatch.setattr(sweeping, name, never)
    assert run_sweep(base.folder, GRID, out, epochs=4) == found
    assert len(quick) == footprints
    assert list(read(out / "journal")) == events


def test_killed_and_asked_for_more_it_ends_with_the_same_files(
    base: Design, found: dict[str, Any], out: Path, tmp_path: Path
) -> None:
    """Killed in a training, then while memory is measured; then asked for another strength and kind."""
    few = Grid(("fake",), (1,), ("weights",), (0.5,))
    for after in (6, 2):
        with pytest.raises(KeyboardInterrupt):
            run_sweep(base.folder, few, tmp_path / "again", epochs=4, progress=Stop(after))
    run_sweep(base.folder, few, tmp_path / "again", epochs=4)
    more = Grid(("fake",), (1,), ("weights", "channels"), (0.5, 0.7), ("float32",))
    again = run_sweep(base.folder, more, tmp_path / "again", epochs=4)
    for name in ("whole", "weights-0.5", "weights-0.7", "channels-0.5", "channels-0.7"):
        mine, theirs = (point(f, name) for f in (again, found))
        assert (tmp_path / "again" / mine["file"]).read_bytes() == (out / theirs["file"]).read_bytes()
        assert mine["latency_ms"] == pytest.approx(theirs["latency_ms"])
    trained = [e["network"] for e in read(tmp_path / "again" / "journal") if e["event"] == "network"]
    assert trained == ["whole", "weights-0.5", "weights-0.7", "channels-0.5", "channels-0.7"]


def test_what_must_be_mended_is_said_at_once(base: Design, out: Path, found: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="no device is called 'onyxruntime'"):
        run_sweep(base.folder, Grid(("onyxruntime",)), out, epochs=4)
    with pytest.raises(FolderError, match="epochs: 4 there, 5 asked"):
        run_sweep(base.folder, GRID, out, epochs=5)
    with pytest.raises(FolderError, match="there is no finished design"):
        run_sweep(out.parent, GRID, out)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"runtimes": ()}, "at least one of its runtimes"),
        ({"runtimes": ("fake", "fake")}, "each once"),
        ({"runtimes": ("onnxruntime:threads=2",)}, "leave them out of 'onnxruntime:threads=2'"),
        ({"runtimes": ("agent://pi:7070?runtime=litert:precision=int8",)}, "leave them out"),
        ({"kinds": ("chanels",)}, "did you mean 'channels'"),
        ({"strengths": (1.0,)}, "shares of 0 to below 1"),
        ({"threads": (0,)}, "threads are 1 to"),
        ({"precisions": ("int4",)}, "precisions are of"),
    ],
)
def test_a_grid_says_what_it_cannot_be_of(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Grid(**{"runtimes": ("fake",), **asked})


def test_a_grid_is_read_from_lists_with_commas() -> None:
    grid = Grid.read(["fake"], threads="1,2", kinds="layers, channels", strengths="0,0.5")
    assert grid == Grid(("fake",), (1, 2), ("layers", "channels"), (0.0, 0.5))
    assert [v.name for v in grid.variants] == ["whole", "layers-0.5", "channels-0.5"]
    assert len(grid.files) == 2 * 3
    for threads, strengths in (("1.5", "0"), ("1", "half"), ("", "0"), ("1", "nan")):
        with pytest.raises(SettingsError, match="with commas between them"):
            Grid.read(["fake"], threads=threads, strengths=strengths)


def test_what_goes_in_a_variant() -> None:
    names = {s: Variant("pattern", s).sparsity for s in (0.25, 0.5, 0.75, 0.875, 0.9375)}
    assert [s.name for s in names.values() if s] == ["3:4", "2:4", "1:4", "1:8", "1:16"]
    with pytest.raises(CompressionError, match=r"takes away 0\.9 of the weights"):
        _ = Variant("pattern", 0.9).sparsity
    assert Variant("channels", 0.5).sparsity is None
    assert Variant("channels", 0.5).narrower
    file = File(Variant("weights", 0.5), "agent://pi.local:7070?runtime=litert", "int8")
    assert file.name == "weights-0.5-agent-pi.local-7070-runtime-litert-int8"


def test_a_device_is_written_with_what_it_is_not_by_itself() -> None:
    assert device_text("ncnn", 1, "float32") == "ncnn"
    assert device_text("litert", 2, "int8") == "litert:threads=2,precision=int8"
    assert device_text("fake:likes=7", 2, "float32") == "fake:likes=7,threads=2"
    agent = "agent://pi:7070?runtime=litert"
    assert device_text(agent, 2, "float32") == f"{agent}:threads=2"


def test_the_same_figures_from_the_numbers_alone(found: dict[str, Any]) -> None:
    for front in found["fronts"]:
        mine = [
            p
            for p in found["points"]
            if (p["runtime"], p["threads"]) == (front["runtime"], front["threads"]) and not p["reason"]
        ]
        kept = [found["points"][i] for i in front["points"]]
        for p in mine:
            beaten = any(
                q["accuracy"] >= p["accuracy"]
                and q[front["by"]] <= p[front["by"]]
                and (q["accuracy"], q[front["by"]]) != (p["accuracy"], p[front["by"]])
                for q in mine
            )
            assert beaten == (p not in kept)
    assert np.isfinite([p["latency_ms"] for p in found["points"] if not p["reason"]]).all()
