"""An int8 file computes what its network does, to the width of a step of its ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

from netsmith.devices.device import parse
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.errors import ExportError
from netsmith.export.module import OnnxModule
from netsmith.export.onnx import read_metadata, write_onnx
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, Plan
from tests.export.test_formats import grown

pytest.importorskip("onnxruntime")

PLAN = Plan(
    (
        Block("conv", 1, 8, 8, 8, kernel=3),
        Block("mbconv", 8, 8, 8, 8, kernel=5, hidden=24, shortcut=True),
        Block("head", 8, 4, 8, 8, hidden=16),
    )
)


def _outputs(model: bytes, x: np.ndarray) -> np.ndarray:
    return OnnxRuntime().prepare(model, x)()


def test_rounding_is_at_most_half_a_step_of_the_range_that_was_seen() -> None:
    """y = x of one channel, calibrated on [0, 2]: input and output are each rounded to 2 / 255."""
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    seen = np.linspace(0, 2, 64, dtype=np.float32).reshape(4, 1, 4, 4)
    model = write_onnx(layer, (1, 4, 4), precision="int8", calibration=seen)
    error = np.abs(_outputs(model, seen) - seen).max()
    assert 0 < error <= 2 / 255 + 1e-6
    clipped = _outputs(model, np.full((1, 1, 4, 4), 3, np.float32))
    np.testing.assert_allclose(clipped, 2, atol=1e-6)


def test_a_network_keeps_its_answers_and_takes_a_byte_a_weight() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Normalize((0.5,), (0.25,)), Network(PLAN)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    exact, small = (
        write_onnx(
            module, (1, 8, 8), input_type="uint8", precision=p, calibration=pixels, metadata={"k": "v"}
        )
        for p in ("float32", "int8")
    )
    expected, got = _outputs(exact, pixels), _outputs(small, pixels)
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
    assert read_metadata(small) == {"k": "v"}
    graph = onnx.load_model_from_string(small).graph
    kernels = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(kernels) == 4 + 1  # the stem, the three layers of the block, the head's first
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_same_network_is_quantised_the_same_twice() -> None:
    torch.manual_seed(0)
    module = Network(PLAN).eval()
    assert write_onnx(module, (1, 8, 8), precision="int8") == write_onnx(module, (1, 8, 8), precision="int8")


def test_layers_that_stay_float_are_those_that_are_named() -> None:
    """All of them float: the file computes as in float32; one of them: its kernel alone is."""
    torch.manual_seed(0)
    module = nn.Sequential(Normalize((0.5,), (0.25,)), Network(PLAN)).eval()
    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)

    def written(floating: list[str]) -> bytes:
        return write_onnx(
            module,
            (1, 8, 8),
            input_type="uint8",
            precision="int8",
            calibration=pixels,
            floating=floating,
        )

    exact = _outputs(write_onnx(module, (1, 8, 8), input_type="uint8"), pixels)
    errors = [np.abs(_outputs(written(layers[:n]), pixels) - exact).max() for n in range(len(layers) + 1)]
    assert errors[-1] < 1e-5 < errors[0]
    for name in layers:
        graph = onnx.load_model_from_string(written([name])).graph
        kernels = [t for t in graph.initializer if t.name.endswith(".weight")]
        assert [t.name for t in kernels] == [f"_{name.replace('.', '_')}.weight"]
        assert kernels[0].data_type == onnx.TensorProto.FLOAT
    with pytest.raises(ExportError, match=r"named as in the module.*; got nothing"):
        written(["nothing"])


@pytest.mark.parametrize("runtime", ["openvino", "litert", "executorch"])
def test_every_runtime_computes_what_the_file_of_both_precisions_says(runtime: str) -> None:
    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    torch.manual_seed(0)
    module = nn.Sequential(Normalize((0.5,), (0.25,)), Network(PLAN)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)

    def outputs(name: str, floating: list[str]) -> np.ndarray:
        device = parse(f"{name}:threads=1,precision=int8")
        model = device.export(module, (1, 8, 8), input_type="uint8", calibration=pixels, floating=floating)
        return np.concatenate([device.prepare(model, pixels[i : i + 1])() for i in range(len(pixels))])

    for floating in (["1.blocks.1.depthwise"], ["1.blocks.0.conv", "1.blocks.2.classifier"]):
        expected = outputs("onnxruntime", floating)
        error = np.abs(outputs(runtime, floating) - expected).max()
        assert error < 0.05 * np.abs(expected).max(), floating


def test_no_images_are_an_error_that_says_so() -> None:
    with pytest.raises(ExportError, match="needs images"):
        write_onnx(nn.ReLU(), (1, 4, 4), precision="int8", calibration=np.zeros((0, 1, 4, 4), np.float32))


def test_parts_of_a_split_and_maxima_keep_the_scale_of_what_they_are_of() -> None:
    model = onnx.load_model_from_string(write_onnx(grown(), (1, 8, 8), precision="int8"))
    nodes, constants = model.graph.node, {t.name: to_array(t) for t in model.graph.initializer}
    made = {output: node for node in nodes for output in node.output}
    readers = {x: node for node in nodes for x in node.input}
    kept = [node for node in nodes if node.op_type in ("Slice", "MaxPool", "AveragePool")]
    assert Counter(node.op_type for node in kept) == {"Slice": 8, "MaxPool": 2, "AveragePool": 1}
    for node in kept:
        levels = [
            [constants[x] for x in each.input[1:]] for each in (made[node.input[0]], readers[node.output[0]])
        ]
        assert levels[0] == levels[1]


@pytest.mark.parametrize(
    ("network", "floating"),
    [
        (lambda: Network(PLAN), []),
        (lambda: Network(PLAN), ["1.blocks.1.depthwise", "1.blocks.2.classifier"]),
        (grown, []),
        (grown, ["1.5.body.paths.0.edge.0", "1.9"]),
    ],
    ids=["MBConv", "MBConv of both precisions", "grown", "grown of both precisions"],
)
def test_a_file_is_read_back_as_a_module_that_rounds_where_it_does(
    network: Callable[[], nn.Module], floating: list[str]
) -> None:
    """To two steps of the output, whose range has 255: the runtime may round a tie the other way."""
    torch.manual_seed(0)
    module = nn.Sequential(Normalize((0.5,), (0.25,)), network()).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    model = write_onnx(
        module, (1, 8, 8), input_type="uint8", precision="int8", calibration=pixels, floating=floating
    )
    got = _outputs(model, pixels)
    read = OnnxModule(model, quantized=True)(torch.from_numpy(pixels)).detach().numpy()
    assert np.abs(read - got).max() <= 2.1 * np.ptp(got) / 255
    with pytest.raises(ExportError, match=r"'DequantizeLinear' .* cannot be run by PyTorch"):
        OnnxModule(model)
