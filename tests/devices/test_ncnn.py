"""ncnn's files: what they take, that ncnn loads them without Netsmith, and what is refused."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.device import parse
from netsmith.errors import DeviceError

pytest.importorskip("ncnn")


def test_a_pass_leaves_its_images_as_they_are() -> None:
    """The first layers work in place: on ncnn's own copy."""
    device = parse("ncnn")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype(np.float32)
    before, run = x.copy(), device.prepare(device.export(nn.ReLU(), (3, 5, 5)), x)
    np.testing.assert_array_equal(run(), run())
    np.testing.assert_array_equal(x, before)


def test_the_two_parts_of_a_file_run_without_netsmith(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2)).eval()
    with zipfile.ZipFile(io.BytesIO(parse("ncnn").export(module, (3, 5, 5)))) as archive:
        archive.extractall(tmp_path)
    code = (
        "import ncnn, numpy as np; network = ncnn.Net()\n"
        "network.load_param('model.ncnn.param'); network.load_model('model.ncnn.bin')\n"
        "extractor = network.create_extractor()\n"
        "extractor.input('in0', ncnn.Mat(np.ones((3, 5, 5), np.float32)).clone())\n"
        "print(*np.array(extractor.extract('out0')[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
    )
    with torch.no_grad():
        expected = module(torch.ones(1, 3, 5, 5))[0].numpy()
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], expected, atol=1e-4)


def _file(layers: str, notes: str = '{"input_type": "float32"}', kind: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        archive.writestr("model.ncnn.param", layers)
        archive.writestr("model.ncnn.bin", b"")
        archive.writestr("netsmith.json", notes)
    return packed.getvalue()


_HEAD = "7767517\n2 2\nInput a 0 1 in0 0=4 1=4 2=3\n"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_file(_HEAD + "ReLU b 1 1 in0 out0\n", kind=zipfile.ZIP_DEFLATED), "is compressed"),
        (_file(_HEAD + "ReLU b 1 1 in0 out0\n", notes='{"input_type": "int64"}'), "int64"),
        (_file(_HEAD + "ReLU b 1 1 in0 out0\n", notes="[]"), "not a file of ncnn's two parts"),
        (_file(_HEAD + "ReLU b 1 1 in0 out0\n", notes="[" * 100_000), "not a file of ncnn's two parts"),
        (_file(_HEAD + "ReLU b 1 1 elsewhere out0\n"), "not a file of ncnn's two parts"),
        (_file(_HEAD + "ReLU b 1 1 in0 in0\n"), "'b' is damaged"),
        (_file(_HEAD + "ReLU b 1 100000000 in0 out0\n"), "'b' is damaged"),
        (_file("7767517\n9 9\nInput a 0 1 in0 0=4 1=4 2=3\n"), "not as many as it says"),
        (_file("7767517\n1 1\nInput a 0 1 in0 0=4 1=-4 2=3\n"), "takes images of"),
        (_file("7767517\n0 0\n"), "0 inputs"),
        (_file(""), "not a file of ncnn's two parts"),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(model: bytes, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        parse("ncnn").input_of(model)


def test_an_archive_of_other_members_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../model.ncnn.param", "7767517")
    with pytest.raises(DeviceError, match="it holds"):
        parse("ncnn").input_of(packed.getvalue())


def test_a_layer_or_weights_that_ncnn_does_not_have_are_refused() -> None:
    x = np.zeros((1, 3, 4, 4), np.float32)
    convolution = "Convolution b 1 1 in0 out0 0=8 1=3 5=1 6=216\n"
    for layer in ("Nonsense b 1 1 in0 out0\n", convolution):
        with pytest.raises(DeviceError, match="cannot load this file"):
            parse("ncnn").prepare(_file(_HEAD + layer), x)


def test_a_damaged_weight_is_found() -> None:
    model = bytearray(parse("ncnn").export(nn.Conv2d(64, 64, 3), (64, 8, 8)))
    model[len(model) // 2] ^= 1
    with pytest.raises(DeviceError, match="CRC"):
        parse("ncnn").input_of(bytes(model))
