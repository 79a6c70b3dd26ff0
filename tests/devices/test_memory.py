"""Memory is that of the file, not of the process which asks."""

from __future__ import annotations

import pytest
from torch import nn

from netsmith.devices import parse
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.errors import ExportError

pytest.importorskip("onnxruntime")


def test_memory_grows_by_what_the_file_holds() -> None:
    device = OnnxRuntime()
    small, large = (
        device.footprint(device.export(nn.Conv2d(8, width, 3), (8, 8, 8))) for width in (8, 32768)
    )
    weights = 8 * 32768 * 9 * 4
    assert large.size_bytes - small.size_bytes == pytest.approx(weights, rel=0.05)
    assert weights < large.peak_bytes - small.peak_bytes < 8 * weights
    assert small.peak_bytes < 30e6  # this process, with PyTorch, holds hundreds of megabytes
    assert small.load_ms > 0


def test_a_file_that_cannot_be_loaded_is_an_error_with_its_reason() -> None:
    with pytest.raises(ExportError, match="not an ONNX model"):
        OnnxRuntime().footprint(b"nonsense")


@pytest.mark.parametrize("name", ["onnxruntime", "litert", "executorch", "mnn", "ncnn", "torch"])
def test_the_memory_of_a_small_file_is_not_that_of_the_runtime(name: str) -> None:
    """Importing a runtime takes tens of megabytes; OpenVINO's compiler takes as much for any file."""
    pytest.importorskip({"litert": "ai_edge_litert", "mnn": "_mnncengine"}.get(name, name))
    device = parse(name)
    assert device.footprint(device.export(nn.Conv2d(8, 8, 3), (8, 8, 8))).peak_bytes < 20e6
