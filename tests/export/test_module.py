"""An ONNX file read as a module computes what the module that it was written from computes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from random import Random

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.module import OnnxModule
from netsmith.export.onnx import write_onnx
from netsmith.nn.condense import condensing
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.spaces.dense import dense
from netsmith.spaces.mbconv import mbconv
from tests.export.test_formats import Parts, grown


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


class Written(nn.Module):
    """What forwards call as functions, with sizes asked for by the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8 * 9, 4)
        self.register_buffer("mean", torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.pad((x - self.mean) / 0.5, (1, 0, 2, 1))
        y = F.leaky_relu(F.max_pool2d(F.silu(self.first(y)), 2), 0.2)
        y = F.dropout(F.hardswish(y.clamp(-1, 2)), 0.5, training=self.training)
        y = F.avg_pool2d(F.elu(torch.tanh(y)), 2)
        return self.second(y.reshape(y.shape[0], -1) + y.view(y.size(0), -1))


def test_calls_of_functions_are_written_directly_and_equal(caplog: pytest.LogCaptureFixture) -> None:
    assert difference(Written(), (3, 12, 13)) < 1e-6
    assert not caplog.records


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


def test_grown_networks_are_equal_and_are_written_again_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module, shape in ((grown(), (1, 10, 9)), (Parts(), (3, 6, 5))):
        assert difference(module, shape) < 1e-5
        first = OnnxModule(write_onnx(module, shape))
        assert difference(first, shape) < 1e-6
    assert not caplog.records


def test_what_is_read_has_layers_with_the_names_and_weights_of_what_was_written() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)]
    module = nn.Sequential(OrderedDict(zip(("conv", "act", "flat", "last"), layers, strict=True)))
    read = OnnxModule(write_onnx(module, (3, 8, 8)))
    assert [(name, type(layer)) for name, layer in read.named_children()][:4] == [
        ("conv", nn.Conv2d), ("act", nn.ReLU), ("flat", nn.Flatten), ("last", nn.Linear),
    ]  # fmt: skip
    assert {name: p.shape for name, p in read.named_parameters()} == {
        name: p.shape for name, p in module.named_parameters()
    }
    read(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.requires_grad for p in read.parameters())
    again = copy.deepcopy(read)
    nn.init.zeros_(again.conv.weight)  # type: ignore[arg-type,union-attr]
    assert not torch.equal(again(torch.ones(1, 3, 8, 8)), read(torch.ones(1, 3, 8, 8)))


def test_norms_that_were_folded_come_back_and_change_nothing() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    gate = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 9, 1), nn.Sigmoid()]  # of one place, which has no norm
    module = nn.Sequential(*layers, *gate, nn.Flatten(), nn.Linear(9, 4)).eval()
    read = OnnxModule(write_onnx(module, (3, 8, 8)))
    images, x = [torch.randn(50, 3, 8, 8) for _ in range(3)], torch.randn(5, 3, 8, 8)
    before = read(x)
    read.unfold(images)
    assert torch.allclose(read(x), before, atol=1e-5)
    norms = [layer for layer in read.children() if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [8, 6]
    given = module[:2](torch.cat(images)).transpose(0, 1).flatten(1)
    assert torch.allclose(norms[0].running_mean, given.mean(1), atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(norms[0].running_var, given.var(1, correction=0), atol=1e-4)  # type: ignore[arg-type]
    read.unfold(images)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in read.children()) == 2
    again = OnnxModule(write_onnx(read, (3, 8, 8)))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in again.children())
    assert torch.allclose(again(x), before, atol=1e-5)


def constant(name: str, values: object, kind: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def test_a_file_as_other_exporters_write_them() -> None:
    """A norm of its own, a product and a sum for a linear layer, sizes asked for, a softmax at the end."""
    rng = np.random.default_rng(0)
    w, matrix, bias = rng.normal(size=(4, 1, 3, 3)), rng.normal(size=(4 * 4, 3)), rng.normal(size=3)
    norm = {name: rng.uniform(0.5, 2, 4) for name in ("scale", "shift", "mean", "variance")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[0, 0, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], epsilon=1e-3),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Constant", [], ["zero"], value=constant("", 0, np.int64)),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["c", "to"], ["d"]),
        helper.make_node("MatMul", ["d", "matrix"], ["e"]),
        helper.make_node("Add", ["bias", "e"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"]),
    ]
    stored = [constant("w", w), constant("matrix", matrix), constant("bias", bias)]
    stored += [constant(name, values) for name, values in norm.items()]
    stored += [constant("axes", [0], np.int64), constant("rest", [-1], np.int64)]
    model = made(*nodes, constants=stored)
    x = rng.normal(size=(2, 1, 4, 4)).astype(np.float32)
    (expected,) = ort.InferenceSession(model).run(None, {"x": x})
    read = OnnxModule(model)
    found = read(torch.from_numpy(x)).softmax(1)
    assert np.abs(found.detach().numpy() - expected).max() < 1e-5
    assert [type(layer) for layer in read.children()][-1] is nn.Linear
    assert sum(p.numel() for p in read.parameters()) == 4 * 9 + 8 + 16 * 3 + 3


def made(*nodes: onnx.NodeProto, constants: Sequence[onnx.TensorProto] = ()) -> bytes:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 1, 4, 4))
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [image], [answer], list(constants))
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def claiming(dims: tuple[int, ...]) -> onnx.TensorProto:
    """A constant of four bytes that says it has these dimensions."""
    return TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, raw_data=b"\0" * 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"nonsense", "not an ONNX model"),
        (made(helper.make_node("Erf", ["x"], ["y"])), "operation 'Erf'"),
        (made(helper.make_node("Relu", ["z"], ["y"])), r"reads \['z'\]"),
        (made(helper.make_node("Relu", ["x"], ["z"])), "nothing gives the output 'y'"),
        (made(helper.make_node("Relu", ["x"], [])), "nothing gives the output 'y'"),
        (made(helper.make_node("MaxPool", ["x"], ["y"])), "MaxPool 'y' cannot be read"),
        (
            made(
                helper.make_node("Slice", ["x", "one", "two", "two"], ["y"]),
                constants=[constant("one", [1], np.int64), constant("two", [2], np.int64)],
            ),
            r"a Slice of the dimensions \[2\]",
        ),
        (made(helper.make_node("Slice", ["x", "x", "x", "x"], ["y"])), "operation 'Slice'"),
        (made(helper.make_node("Reshape", ["x", "x"], ["y"])), "one row of each image"),
        (
            made(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="SAME_UPPER")),
            "explicit pads",
        ),
        (
            made(helper.make_node("Conv", ["x", "w"], ["y"]), constants=[claiming((1 << 40, 1, 3, 3))]),
            "constant 'w' cannot be read",
        ),
        (
            made(helper.make_node("Conv", ["x", "w"], ["y"]), constants=[constant("w", np.zeros((4, 9)))]),
            "a weight of 4 dimensions",
        ),
        (
            made(helper.make_node("Gemm", ["x", "w"], ["y"], alpha=2.0), constants=[constant("w", [[1.0]])]),
            "Gemm of",
        ),
    ],
)
def test_a_file_that_cannot_be_run_says_why(model: bytes, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        OnnxModule(model)
