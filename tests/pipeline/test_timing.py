"""One network is timed on several devices, each with a file of its own format."""

from __future__ import annotations

import pytest

from netsmith.errors import DeviceError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.timing import time_on

pytest.importorskip("onnxruntime")


def test_a_design_is_timed_on_its_own_device_by_the_file_that_it_holds(finished: Design) -> None:
    (own,) = time_on(finished.folder, [])
    assert own.device.name == "fake:likes=3"
    assert own.latency.median_ms == pytest.approx(finished.latency_ms)
    assert own.footprint.size_bytes == finished.exported.stat().st_size
    assert own.images_per_s == pytest.approx(1000 / finished.latency_ms)


def test_other_devices_get_files_of_their_own(finished: Design) -> None:
    pytest.importorskip("ai_edge_litert")
    names = ["onnxruntime", "litert:precision=int8"]
    real, rounded = time_on(finished.folder, names, batch=3, limit_s=1)
    assert [real.device.name, rounded.device.name] == [
        "onnxruntime:threads=1",
        "litert:threads=1,precision=int8",
    ]
    assert min(real.latency.median_ms, rounded.latency.median_ms) > 0
    assert rounded.footprint.size_bytes < real.footprint.size_bytes


def test_a_file_is_timed_as_it_is(finished: Design) -> None:
    file = finished.exported
    (timed,) = time_on(file, ["fake"], batch=2)
    assert timed.latency.median_ms == pytest.approx(2 * finished.latency_ms)
    with pytest.raises(DeviceError, match="leave it out, or give the folder"):
        time_on(file, ["onnxruntime:precision=int8"])
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(DeviceError, match=r"files that end in '.tflite', which .*model\.onnx does not"):
        time_on(file, ["litert"])
