"""An ncnn file computes what the module does that it was written from."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.ncnn import Ncnn
from netsmith.errors import ExportError
from netsmith.export.ncnn import write_ncnn
from netsmith.export.onnx import to_onnx
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.spaces.mbconv import mbconv

pytest.importorskip("ncnn")


def _worst(module: nn.Module, shape: tuple[int, int, int], count: int = 2) -> float:
    """The largest difference of a pass in ncnn from one in PyTorch, over the largest output."""
    module.eval()
    x = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    got = Ncnn().prepare(Ncnn().export(module, shape), x)()
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions_of_every_padding_are_equal(kernel: int, stride: int, size: int, groups: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=groups)
    assert _worst(layer, (6, size, size)) < 1e-5


@pytest.mark.parametrize("size", [7, 8, 14])
def test_fast_convolutions_lose_little(size: int) -> None:
    """ncnn transforms 3x3 kernels of many channels (Winograd), which rounds more."""
    torch.manual_seed(0)
    assert _worst(nn.Conv2d(32, 64, 3, padding=1), (32, size, size)) < 2e-5


class _Gate(nn.Module):
    """What squeeze-and-excitation does, numbers beside tensors, and a value that is read many times."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True))) + x
        return torch.cat([gated, 1 - gated * 2.5, x - gated], 1)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.Conv2d(3, 4, 3, padding=2, dilation=2),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.ReLU6(),
        nn.Hardswish(),
        nn.Hardsigmoid(),
        nn.BatchNorm2d(3),
        nn.Identity(),
        _Gate(),
    ],
)
def test_layers_are_equal(module: nn.Module) -> None:
    torch.manual_seed(0)
    for layer in module.modules():  # made when the tests were collected, from whatever seed there was
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    assert _worst(module, (3, 8, 8)) < 1e-5


def test_every_block_of_a_space_is_equal() -> None:
    torch.manual_seed(0)
    for block in mbconv((1, 12, 12), 4, width=0.2).blocks:
        if block.op != "skip":
            assert _worst(Network(Plan((block,))), block.input_shape, 1) < 2e-5, block.key


PLAN = Plan(
    (
        Block("conv", 1, 8, 8, 8, kernel=3, stride=2),
        Block("mbconv", 8, 8, 4, 4, kernel=5, hidden=24, shortcut=True),
        Block("head", 8, 4, 4, 4, hidden=16),
    )
)


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


def test_the_same_network_is_written_the_same_twice() -> None:
    module = Network(PLAN).eval()
    assert Ncnn().export(module, (1, 8, 8)) == Ncnn().export(module, (1, 8, 8))
