"""An ONNX file read as a module computes what the module that it was written from computes."""

from __future__ import annotations

from random import Random

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.module import OnnxModule
from netsmith.export.onnx import write_onnx
from netsmith.nn.condense import condensing
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.spaces.dense import dense
from netsmith.spaces.mbconv import mbconv


def difference(module: nn.Module, shape: tuple[int, int, int], pixels: bool = False) -> float:
    """The worst difference of the outputs of a module and of its file, over a batch of three."""
    torch.manual_seed(0)
    module = module.eval()
    x = torch.randint(0, 256, (3, *shape), dtype=torch.uint8) if pixels else torch.rand(3, *shape)
    read = OnnxModule(write_onnx(module, shape, input_type="uint8" if pixels else "float32"))
    with torch.no_grad():
        return float((module(x) - read(x)).abs().max())


@pytest.mark.parametrize("seed", range(3))
def test_networks_of_the_space_are_equal(seed: int) -> None:
    space = mbconv((3, 16, 16), 10, width=0.5)
    network = Network(space.plan(space.sample(Random(seed))))
    assert difference(nn.Sequential(Normalize([0.5] * 3, [0.2] * 3), network), (3, 16, 16), True) < 1e-4


@pytest.mark.parametrize("layers", [(1, 5, 1, 4), (2, 6, 3, 5, 1), (3, 3, 1, 2)])
def test_networks_of_the_dense_space_are_equal(layers: tuple[int, ...]) -> None:
    space = dense((1, 9, 8), 4)
    network = Network(space.plan(space.arch(layers)))
    for learned in condensing(network):
        learned.condense(1.0)
    assert difference(network, (1, 9, 8)) < 1e-5


class Odd(nn.Module):
    """Operations that the networks of the space do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, stride=2, padding=(1, 0), dilation=1, groups=2)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.most = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
        self.tail = nn.Sequential(nn.Hardswish(), nn.Flatten(), nn.LazyLinear(5), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        y = torch.cat([y * self.gate(y), 0.5 - y], 1)
        return self.tail(torch.cat([self.most(y), self.most(self.mean(y))], 1))


def test_other_operations_are_equal() -> None:
    module = Odd()
    module(torch.rand(1, 4, 12, 12))
    assert difference(module, (4, 12, 12)) < 1e-5


def made(*nodes: onnx.NodeProto) -> bytes:
    image, answer = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ("N", 1, 4, 4)) for n in ("x", "y"))
    return helper.make_model(helper.make_graph(list(nodes), "g", [image], [answer])).SerializeToString()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"nonsense", "not an ONNX model"),
        (made(helper.make_node("Erf", ["x"], ["y"])), "operation 'Erf'"),
        (made(helper.make_node("Relu", ["z"], ["y"])), r"reads \['z'\]"),
        (made(helper.make_node("Relu", ["x"], ["z"])), "nothing gives the output 'y'"),
    ],
)
def test_a_file_that_cannot_be_run_says_why(model: bytes, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        OnnxModule(model)
