"""Exported files compute what the modules compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.graph import MODULES, GraphWriter, UnknownOperationError
from netsmith.export.onnx import Precision, read_metadata, write_nodes, write_onnx
from netsmith.nn.blocks import build_block
from netsmith.nn.condense import condensing
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, summed
from netsmith.spaces.condensenet import condensenet
from netsmith.spaces.dense import DenseStage, dense
from netsmith.spaces.mbconv import mbconv
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.spaces.routed import routed

runtime = pytest.importorskip("onnxruntime")


def _shake(module: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights that a fold cannot ignore."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias)
    for learned in condensing(module):
        learned.condense(1.0)
    return module.eval()


def _difference(module: nn.Module, shape: tuple[int, int, int], batch: int = 3) -> float:
    x = torch.randn(batch, *shape)
    session = runtime.InferenceSession(write_onnx(module, shape))
    (got,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        want = module(x).numpy()
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def test_every_block_of_the_spaces_is_written_directly_and_equals_its_module(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = dense((3, 16, 16), 10, depth=1, stages=[DenseStage(1, 8), DenseStage(1, 16)])
    plans = [space.plan(arch) for arch in space.children(None)] + [
        condensenet((3, 16, 16), 10, (1, 1), (8, 16))
    ]
    routed_blocks = routed((3, 16, 16), 10).blocks
    sums = [summed(routed_blocks[1:6]), summed(routed_blocks[6:8])]
    chosen = {*mbconv((3, 16, 16), 10).blocks, *routed_blocks, *sums}
    blocks = {*chosen, *(block for plan in plans for block in plan.blocks)}
    for block in blocks:
        assert _difference(_shake(build_block(block)), block.input_shape) < 1e-5, block.key
    assert not caplog.records


@pytest.mark.parametrize("batch", [1, 7])
def test_a_network_with_its_preprocessing_takes_pixels(batch: int) -> None:
    network = nn.Sequential(
        Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), Network(mobilenetv2((3, 32, 32), 10))
    )
    _shake(network)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    session = runtime.InferenceSession(write_onnx(network, (3, 32, 32), input_type="uint8"))
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("images", ["batch", 3, 32, 32], "tensor(uint8)")
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", ["batch", 10])]
    (got,) = session.run(None, {"images": pixels})
    with torch.no_grad():
        assert np.abs(got - network(torch.from_numpy(pixels)).numpy()).max() < 1e-5


def test_batch_norms_are_folded_and_no_other_node_is_written() -> None:
    block = Block("mbconv", 8, 8, 8, 8, kernel=5, hidden=24, shortcut=True)
    model = onnx.load_model_from_string(write_onnx(build_block(block), block.input_shape))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Conv", "Clip", "Conv", "Clip", "Conv", "Add", "Identity"]


LEARNED = Block("dense", 16, 24, 8, 8, cell="norm+relu,1x1:32/4/4,norm+relu,3x3:8/4")


@pytest.mark.parametrize(
    ("select", "precision", "expected"),
    [
        (True, "float32", "Mul Add Relu Gather Conv Relu Gather Conv Concat"),
        (False, "float32", "Mul Add Relu Conv Relu Conv Concat"),
        (True, "int8", "Conv Conv Conv Concat"),
    ],
)
def test_a_learned_group_convolution_is_written_in_the_form_asked_for(
    select: bool, precision: Precision, expected: str
) -> None:
    module = build_block(LEARNED)  # not trained: its form is already the last one
    data = write_onnx(module, LEARNED.input_shape, precision=precision, select=select)
    graph = onnx.load_model_from_string(data).graph
    quantizing = ("QuantizeLinear", "DequantizeLinear")
    kinds = [node.op_type for node in graph.node if node.op_type not in quantizing]
    assert kinds == [*expected.split(), "Identity"]
    if precision == "float32":
        sizes = [tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 4]
        assert sizes == [(32, 4 if select else 16, 1, 1), (8, 8, 3, 3)]


class _Mixture(nn.Module):
    """Functions, methods and operators, and a convolution whose batch norm must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.average = nn.AvgPool2d(2, 2)
        self.linear = nn.Linear(8, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = torch.cat([self.norm(y), F.relu(y)], dim=1) * 0.5
        z = self.average(self.pool(torch.sigmoid(z) - 1.5) + self.pool(z))
        out: torch.Tensor = self.linear(torch.flatten(F.relu6(z).mean((2, 3), keepdim=True), 1))
        return out


def test_functions_methods_and_operators_are_written_directly(caplog: pytest.LogCaptureFixture) -> None:
    assert _difference(_shake(_Mixture()), (4, 16, 16)) < 1e-5
    assert not caplog.records


@pytest.mark.parametrize(
    "layer",
    [nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(), nn.BatchNorm2d(4),
     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Identity(),
     nn.Conv2d(4, 6, (3, 5), 2, (1, 2), groups=2), nn.Conv2d(4, 4, 3, dilation=2),
     nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1, count_include_pad=False)],
)  # fmt: skip
def test_a_layer_alone_is_written_directly(layer: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    assert type(layer) in MODULES
    assert _difference(_shake(layer), (4, 9, 9)) < 1e-5
    assert not caplog.records


class _Calling(nn.Module):
    """Any function as a forward."""

    def __init__(self, function: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(x)


def test_a_part_of_a_split_is_a_slice_and_what_nobody_takes_is_not_written() -> None:
    writer = GraphWriter()
    write_nodes(writer, _Calling(lambda x: [part + 1 for part in x.split([2, 1, 3], 1)][1]))
    kinds = [(node.op_type, *node.input[1:]) for node in writer.nodes]
    assert kinds == [("Slice", "channel.2", "channel.3", "channel.1"), ("Add", "number.1")]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.split(2)[0], "splitting dimension 0"),
        (lambda x: torch.split(x, [1, 3], dim=2)[0], "splitting dimension 2"),
        (lambda x: x.split(x.size(0), 1)[0], "call of split with a size"),
        (lambda x: x.split(2, 1)[-1], "the part -1 of a split by 2"),
        (lambda x: x.split([1, 2], 1)[2], "the part 2 of a split"),
        (lambda x: x.split([1, 2], 1)[:1][0], "the part slice"),
        (lambda x: torch.cat(x.split([1, 2], 1), 1), "all parts of a split"),
        (lambda x: x.split([1, 2], 1), "several outputs"),
        (lambda x: list(x.split(2, 1)), "not traceable"),
        (lambda x: x[0], "the item 0"),
        (lambda x: x[:, 1], "the channels 1"),
        (lambda x: x[:, ::2], "the channels slice"),
        (lambda x: x[:, :, 1:], "the item"),
    ],
)
def test_what_is_no_choice_of_channels_is_left_to_pytorch(
    function: Callable[[torch.Tensor], object], message: str
) -> None:
    with pytest.raises(UnknownOperationError, match=message):
        write_nodes(GraphWriter(), _Calling(function))


class _Softmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x.mean((1, 2)), 1)


def test_an_unknown_operation_goes_through_pytorch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnxscript")
    assert _difference(_Softmax(), (3, 8, 8)) < 1e-5
    assert "torch.onnx.export" in caplog.text


class _Unwritable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_module_that_neither_way_writes_is_an_error() -> None:
    with pytest.raises(ExportError, match="_Unwritable cannot be written"):
        write_onnx(_Unwritable(), (3, 8, 8))


def test_a_module_of_another_input_shape_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"\(4, 8, 8\)"):
        write_onnx(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), (4, 8, 8))


def test_writing_keeps_modes_and_metadata() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    module[1].eval()
    data = write_onnx(module, (3, 8, 8), metadata={"labels": '["a", "b"]', "version": "1"})
    assert module.training
    assert not module[1].training
    assert read_metadata(data) == {"labels": '["a", "b"]', "version": "1"}
    with pytest.raises(ExportError, match="not an ONNX file"):
        read_metadata(b"garbage\xff\x00")


def test_the_same_module_is_written_the_same_twice() -> None:
    block = Block("mbconv", 8, 16, 8, 8, kernel=3, stride=2, hidden=48)
    module = build_block(block)
    assert write_onnx(module, block.input_shape) == write_onnx(module, block.input_shape)
