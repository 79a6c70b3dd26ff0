"""A runtime on this processor uses the threads that it was told, and no more."""

from __future__ import annotations

import time

import numpy as np
import pytest
from torch import nn

from netsmith.devices import parse

RUNTIMES = ("onnxruntime", "openvino", "litert", "executorch", "mnn", "ncnn", "torch")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_thread_takes_no_more_processor_time_than_passes_by(runtime: str) -> None:
    """Two threads at work would take nearly twice as much; a ratio, since the machine may be busy."""
    pytest.importorskip({"litert": "ai_edge_litert", "mnn": "_mnncengine"}.get(runtime, runtime))
    device = parse(f"{runtime}:threads=1")
    module = nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU6(), nn.Conv2d(64, 64, 3))
    x = np.random.default_rng(0).random((1, 32, 96, 96), dtype=np.float32)
    run = device.prepare(device.export(module, (32, 96, 96)), x)
    for _ in range(5):
        run()
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(40):
        run()
    assert time.process_time() - used < 1.3 * (time.perf_counter() - wall)
