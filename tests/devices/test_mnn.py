"""MNN's files, and what it prints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.device import parse
from netsmith.errors import DeviceError, ExportError, MissingExtraError

pytest.importorskip("_mnncengine")


def test_a_block_keeps_the_order_of_its_outputs() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(3, 6, 3).eval()
    x = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    device = parse("mnn")
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(device.prepare(device.export(module, (3, 8, 8)), x)(), expected, atol=1e-5)


def test_an_input_of_another_shape_or_type_is_refused() -> None:
    device = parse("mnn")
    model = device.export(nn.ReLU(), (3, 4, 4))
    for x in (np.zeros((1, 2, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.uint8)):
        with pytest.raises(DeviceError, match=r"takes \(N, 3, 4, 4\) of float32"):
            device.prepare(model, x)


def test_what_mnn_prints_stays_out_of_standard_output() -> None:
    code = (
        "import numpy as np; from netsmith.devices.device import parse\n"
        "from netsmith.errors import DeviceError; from torch import nn\n"
        "device = parse('mnn'); model = device.export(nn.ReLU(), (3, 4, 4))\n"
        "device.prepare(model, np.zeros((1, 3, 4, 4), np.float32))()\n"
        "try: device.prepare(b'not a model', np.zeros((1, 3, 4, 4), np.float32))\n"
        "except DeviceError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout == "refused\n"


def test_writing_without_the_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsmith.devices.mnn.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[mnn\]"):
        parse("mnn", here=False).export(nn.ReLU(), (3, 4, 4))


def test_a_converter_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsmith.devices.mnn._CONVERT", "import sys; sys.exit('no such operator')")
    with pytest.raises(ExportError, match="status 1: no such operator"):
        parse("mnn").export(nn.ReLU(), (3, 4, 4))
