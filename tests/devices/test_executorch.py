"""ExecuTorch's files, its threads, and what it prints."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.device import parse
from netsmith.errors import DeviceError, MissingExtraError

pytest.importorskip("executorch")


def test_a_pass_needs_nothing_that_its_caller_holds() -> None:
    """The runtime reads the file's bytes for as long as the file is loaded."""
    device, x = parse("executorch"), np.random.default_rng(0).random((1, 8, 9, 9), dtype=np.float32)
    run = device.prepare(device.export(nn.Conv2d(8, 64, 3), (8, 9, 9)), x)
    before = run().copy()
    gc.collect()
    others = [bytes([i % 256]) * 30_000 for i in range(100)]
    np.testing.assert_array_equal(run(), before)
    assert others


def test_damage_is_found_before_the_runtime_sees_it() -> None:
    device = parse("executorch")
    model = bytearray(device.export(nn.Conv2d(8, 8, 3), (8, 9, 9)))
    for place in (100, len(model) // 2, len(model) - 1):
        damaged = model.copy()
        damaged[place] ^= 1
        with pytest.raises(DeviceError, match="its checksum is another"):
            device.input_of(bytes(damaged))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_another_number_of_threads_waits_until_no_file_is_loaded() -> None:
    one, two = parse("executorch:threads=1"), parse("executorch:threads=2")
    model, x = one.export(nn.ReLU(), (3, 4, 4)), np.ones((1, 3, 4, 4), np.float32)
    run = one.prepare(model, x)
    with pytest.raises(DeviceError, match="one number of threads a process"):
        two.prepare(model, x)
    np.testing.assert_array_equal(run(), x)
    del run
    gc.collect()
    np.testing.assert_array_equal(two.prepare(model, x)(), x)


def test_a_file_runs_without_netsmith(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2)).eval()
    (tmp_path / "model.pte").write_bytes(parse("executorch").export(module, (3, 5, 5)))
    code = (
        "import torch; from executorch.extension.pybindings import _C\n"
        "print(*_C._load_for_executorch('model.pte').forward([torch.ones(1, 3, 5, 5)])[0][0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True
    )
    with torch.no_grad():
        expected = module(torch.ones(1, 3, 5, 5))[0].numpy()
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], expected, atol=1e-4)


def test_what_executorch_prints_stays_out_of_standard_output(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(parse("executorch").export(nn.ReLU(), (3, 4, 4)))
    code = (
        "import pathlib; import numpy as np; from netsmith.devices.device import parse\n"
        "from netsmith.errors import DeviceError; model = pathlib.Path('model.pte').read_bytes()\n"
        "device = parse('executorch')\n"
        "device.prepare(model, np.zeros((1, 3, 4, 4), np.float32))()\n"
        "try: device.prepare(model[:600], np.zeros((1, 3, 4, 4), np.float32))\n"
        "except DeviceError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout == "refused\n"


def test_writing_without_the_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    monkeypatch.setitem(sys.modules, "executorch.backends.xnnpack.serialization", None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[executorch\]"):
        parse("executorch", here=False).export(nn.ReLU(), (3, 4, 4))
