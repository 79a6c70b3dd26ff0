"""What an ncnn file holds, and what cannot be written as one."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from torch import nn

from netsmith.devices.ncnn import Ncnn
from netsmith.errors import ExportError
from netsmith.export.ncnn import write_ncnn
from netsmith.export.onnx import to_onnx
from netsmith.nn.network import Network
from tests.export.test_formats import PLAN

pytest.importorskip("ncnn")


def test_an_activation_belongs_to_the_layer_before_it() -> None:
    with zipfile.ZipFile(io.BytesIO(Ncnn().export(Network(PLAN), (1, 8, 8)))) as archive:
        layers = archive.read("model.ncnn.param").decode()
    assert "Clip" not in layers
    assert layers.count("-23310=2,0.000000000e+00,6.000000000e+00") == 4


def test_a_file_holds_four_bytes_a_weight_and_what_was_noted() -> None:
    model = Ncnn().export(nn.Conv2d(64, 256, 3), (64, 8, 8), metadata={"netsmith.labels": "a, b"})
    assert 4 * 64 * 256 * 9 < len(model) < 4.2 * 64 * 256 * 9
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        notes = json.loads(archive.read("netsmith.json"))
    assert notes == {"input_type": "float32", "metadata": {"netsmith.labels": "a, b"}}


def test_what_cannot_be_written_is_named() -> None:
    with pytest.raises(ExportError, match="ceil_mode"):
        Ncnn().export(nn.MaxPool2d(3, ceil_mode=True), (1, 4, 4))
    model = to_onnx(nn.Sigmoid(), (1, 4, 4))
    model.graph.node[0].op_type = "Tanh"
    with pytest.raises(ExportError, match="'Tanh' cannot be written as an ncnn file; known: Conv"):
        write_ncnn(model)
