"""An ExecuTorch file computes what the ONNX graph does that it was translated from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.executorch import ExecuTorch
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.errors import ExportError
from netsmith.export.executorch import write_executorch
from netsmith.export.onnx import to_onnx
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, Plan
from netsmith.spaces.mbconv import mbconv

pytest.importorskip("executorch")
pytest.importorskip("onnxruntime")


def _worst(module: nn.Module, shape: tuple[int, int, int], count: int = 3) -> float:
    """The largest difference of a pass in ExecuTorch from one in PyTorch, over the largest output."""
    module.eval()
    x = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    got = ExecuTorch().prepare(ExecuTorch().export(module, shape), x)()
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


class _Gate(nn.Module):
    """What squeeze-and-excitation does, numbers beside tensors, and a value that is read many times."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True))) + x
        return 1 - gated * 2.5 + x


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.Conv2d(3, 4, 3, padding=2, dilation=2),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.ReLU()),
        nn.ReLU6(),
        nn.Hardswish(),
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
            assert _worst(Network(Plan((block,))), block.input_shape, 1) < 1e-5, block.key


PLAN = Plan(
    (
        Block("conv", 1, 8, 8, 8, kernel=3, stride=2),
        Block("mbconv", 8, 8, 4, 4, kernel=5, hidden=24, shortcut=True),
        Block("head", 8, 4, 4, 4, hidden=16),
    )
)


def test_integers_are_those_of_onnx_runtime_to_a_step() -> None:
    """Both files hold the same integers and scales: only rounding differs."""
    torch.manual_seed(0)
    module = nn.Sequential(Normalize((0.5,), (0.25,)), Network(PLAN)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    outputs = []
    for device in (OnnxRuntime(precision="int8"), ExecuTorch(precision="int8")):
        model = device.export(module, (1, 8, 8), input_type="uint8", calibration=pixels)
        outputs.append(device.prepare(model, pixels)())
    exact = OnnxRuntime().export(module, (1, 8, 8), input_type="uint8")
    expected = OnnxRuntime().prepare(exact, pixels)()
    step = (expected.max() - min(0, expected.min())) / 255
    assert np.abs(outputs[0] - outputs[1]).max() < 6 * step
    for got in outputs:
        assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_a_file_holds_a_byte_a_weight_and_what_was_noted() -> None:
    module, weights = nn.Conv2d(64, 256, 3), 64 * 256 * 9
    large, small = (
        ExecuTorch(precision=p).export(module, (64, 8, 8), metadata={"netsmith.labels": "a, b"})
        for p in ("float32", "int8")
    )
    assert 4 * weights < len(large) < 4.2 * weights
    assert weights < len(small) < 1.2 * weights
    assert b"netsmith.labels" in small
    assert b"a, b" in small


def test_what_cannot_be_written_is_named() -> None:
    model = to_onnx(nn.Sigmoid(), (1, 4, 4))
    model.graph.node[0].op_type = "Tanh"
    with pytest.raises(ExportError, match="'Tanh' cannot be written as an ExecuTorch file; known: Conv"):
        write_executorch(model)


def test_the_same_network_is_written_the_same_twice() -> None:
    module = Network(PLAN).eval()
    assert ExecuTorch().export(module, (1, 8, 8)) == ExecuTorch().export(module, (1, 8, 8))
