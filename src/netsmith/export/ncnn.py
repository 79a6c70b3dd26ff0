"""Writing a network as an ncnn file, from its ONNX graph.

ncnn loads two files, layers as text and weights as bytes. Ours is an uncompressed zip archive of the two,
named as ncnn's own converter names them, and of what was noted: ``unzip`` gives what any ncnn loads.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, shape_inference

from netsmith.errors import ExportError
from netsmith.export.onnx_graph import OnnxGraph, attributes_of, channels_of, translate

Array = np.ndarray[Any, np.dtype[Any]]
Parameter = int | float | Sequence[float]

LAYERS, WEIGHTS, NOTES = "model.ncnn.param", "model.ncnn.bin", "netsmith.json"
"""The three members of the archive; the last holds ``input_type`` and ``metadata`` as JSON."""

_MAGIC = 7767517
_INPUT, _OUTPUT = "in0", "out0"
_RELU, _CLIP = 1, 3  # ncnn's numbers of the activations that a layer may end with
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # so that a network is written the same twice


def write_ncnn(model: onnx.ModelProto, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of an archive of the ncnn network that computes what ``model`` does to one image.

    ncnn takes float32 alone, so pixels are to be given as such; the notes say what type they have. Raises
    :class:`ExportError` on an operation that is not known here.
    """
    graph = NcnnGraph(shape_inference.infer_shapes(model).graph)
    translate(graph, _OPERATIONS, "an ncnn file")
    notes = {"input_type": graph.input_type, "metadata": dict(metadata or {})}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LAYERS, _NO_TIME), graph.text())
        archive.writestr(zipfile.ZipInfo(WEIGHTS, _NO_TIME), bytes(graph.weights))
        archive.writestr(zipfile.ZipInfo(NOTES, _NO_TIME), json.dumps(notes, indent=1))
    return packed.getvalue()


class NcnnGraph(OnnxGraph):
    """What is written so far; ``places`` says which of ncnn's blobs holds each ONNX value."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self.layers: list[tuple[str, list[str], str, dict[int, Parameter]]] = []
        self.weights = bytearray()
        (image,) = graph.input
        self.input_type = "uint8" if image.type.tensor_type.elem_type == TensorProto.UINT8 else "float32"
        self.places: dict[str, str] = {image.name: _INPUT}
        _, channels, height, width = self.shapes[image.name]
        self.layers.append(("Input", [], _INPUT, {0: width, 1: height, 2: channels}))

    def layer(
        self, kind: str, inputs: Sequence[str], output: str, parameters: Mapping[int, Parameter] | None = None
    ) -> None:
        """Add a layer that computes the ONNX value ``output`` from others, by ncnn's numbered parameters."""
        self.layers.append((kind, [self.place(name) for name in inputs], output, dict(parameters or {})))
        self.places[output] = output

    def place(self, name: str) -> str:
        """Return the blob of a value. Raises :class:`ExportError` where it is a constant."""
        if name not in self.places:
            raise ExportError(f"the constant '{name}' is used where ncnn takes none")
        return self.places[name]

    def weight(self, values: Array, *, tagged: bool) -> None:
        """Add float32 numbers; where ncnn knows several kinds they are tagged, and 0 means float32."""
        self.weights += bytes(4 * tagged) + np.ascontiguousarray(values, "<f4").tobytes()

    def activation(self, node: NodeProto) -> tuple[str, dict[int, Parameter]]:
        """Return the output and the parameters of a layer that takes along a ReLU or Clip behind it."""
        follower = self.only_reader(node.output[0])
        if follower is None or follower.op_type not in ("Relu", "Clip"):
            return node.output[0], {}
        self.places[node.output[0]] = follower.output[0]
        if follower.op_type == "Relu":
            return follower.output[0], {9: _RELU}
        return follower.output[0], {9: _CLIP, 10: self.limits(follower)}

    def limits(self, node: NodeProto) -> tuple[float, float]:
        """Return the limits of a Clip."""
        low, high = (float(self.constants[name]) for name in node.input[1:])
        return low, high

    def text(self) -> str:
        """Return the layers as ncnn reads them, a blob that several of them read split for each."""
        self.layers.append(("Noop", [self.place(self.source.output[0].name)], _OUTPUT, {}))
        left: dict[str, list[str]] = {}
        counts = [name for _, inputs, _, _ in self.layers for name in inputs]
        lines, blobs = [], 0
        for number, (kind, inputs, output, parameters) in enumerate(self.layers):
            names = [left[name].pop() if name in left else name for name in inputs]
            lines.append(_line(kind, f"{kind.lower()}_{number}", names, [output], parameters))
            blobs += 1
            if (count := counts.count(output)) > 1:
                left[output] = [f"{output}.{i}" for i in range(count)]
                lines.append(_line("Split", f"split_{number}", [output], left[output], {}))
                blobs += count
        return "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines, ""])


def _line(
    kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], parameters: Mapping[int, Parameter]
) -> str:
    written = []
    for number, value in parameters.items():
        if isinstance(value, Sequence):  # an array has a key of its own, and its length first
            written.append(f"{-23300 - number}={len(value)},{','.join(map(_number, value))}")
        else:
            written.append(f"{number}={_number(value)}")
    return " ".join([kind, name, str(len(inputs)), str(len(outputs)), *inputs, *outputs, *written])


def _number(value: float) -> str:
    """A number as ncnn reads it, which tells whole ones from others by their points."""
    return str(value) if isinstance(value, int) else f"{value:.9e}"


def _convolution(graph: NcnnGraph, node: NodeProto) -> None:
    attributes, kernel = attributes_of(node), graph.constants[node.input[1]]
    groups, (top, left, bottom, right) = attributes["group"], attributes["pads"]
    output, activation = graph.activation(node)
    parameters: dict[int, Parameter] = {
        0: len(kernel),
        1: kernel.shape[3],
        11: kernel.shape[2],
        2: attributes["dilations"][1],
        12: attributes["dilations"][0],
        3: attributes["strides"][1],
        13: attributes["strides"][0],
        4: left,
        14: top,
        15: right,
        16: bottom,
        5: len(node.input) - 2,
        6: kernel.size,
    }
    kind = "Convolution"
    if groups > 1:
        kind, parameters[7] = "ConvolutionDepthWise", groups
    graph.layer(kind, node.input[:1], output, parameters | activation)
    _kernel_and_bias(graph, node)


def _linear(graph: NcnnGraph, node: NodeProto) -> None:
    if attributes_of(node) != {"transB": 1}:
        raise ExportError(
            f"a Gemm of {attributes_of(node)} cannot be written as an ncnn file, but for that "
            "of a linear layer"
        )
    kernel = graph.constants[node.input[1]]
    output, activation = graph.activation(node)
    parameters: dict[int, Parameter] = {0: len(kernel), 1: len(node.input) - 2, 2: kernel.size}
    graph.layer("InnerProduct", node.input[:1], output, parameters | activation)
    _kernel_and_bias(graph, node)


def _kernel_and_bias(graph: NcnnGraph, node: NodeProto) -> None:
    graph.weight(graph.constants[node.input[1]], tagged=True)
    for name in node.input[2:]:
        graph.weight(graph.constants[name], tagged=False)


_ADD, _SUBTRACT, _MULTIPLY, _SUBTRACT_FROM = 0, 1, 2, 7  # ncnn's numbers of operations of two values


def _binary(code: int) -> Callable[[NcnnGraph, NodeProto], None]:
    def translate(graph: NcnnGraph, node: NodeProto) -> None:
        given = [name for name in node.input if name in graph.constants]
        if not given:
            graph.layer("BinaryOp", node.input, node.output[0], {0: code})
        elif graph.constants[given[0]].size == 1:
            operation = _SUBTRACT_FROM if code == _SUBTRACT and node.input[0] in given else code
            number = float(graph.constants[given[0]].item())
            images = [name for name in node.input if name not in given]
            graph.layer("BinaryOp", images, node.output[0], {0: operation, 1: 1, 2: number})
        else:
            _scale(graph, node, code, given[0])

    return translate


def _scale(graph: NcnnGraph, node: NodeProto, code: int, constant: str) -> None:
    """Translate what is done with a number for each channel; an Add behind a Mul is taken along."""
    (x,) = (name for name in node.input if name != constant)
    values = _each_channel(graph, x, constant)
    output, bias = node.output[0], None
    if code == _MULTIPLY:
        follower = graph.only_reader(output)
        if follower is not None and follower.op_type == "Add" and set(follower.input) & set(graph.constants):
            (added,) = (name for name in follower.input if name in graph.constants)
            bias = np.broadcast_to(_each_channel(graph, x, added), values.shape)
            graph.places[output] = output = follower.output[0]
    elif code == _ADD:
        values, bias = np.ones_like(values), values
    else:
        raise ExportError("a subtraction of a number for each channel cannot be written as an ncnn file")
    graph.layer("Scale", [x], output, {0: values.size, 1: int(bias is not None)})
    graph.weight(values, tagged=False)
    if bias is not None:
        graph.weight(bias, tagged=False)


def _each_channel(graph: NcnnGraph, x: str, constant: str) -> Array:
    """Return a constant as one number for each channel of ``x``, or one for all."""
    values, channels = graph.constants[constant], graph.shapes[x][1]
    images = len(graph.shapes[x]) == 4
    if values.size != 1 and (values.size != channels or (values.shape[-2:] != (1, 1) and images)):
        raise ExportError(
            f"a constant of {values.shape} beside {graph.shapes[x]} cannot be written as an ncnn file, but "
            "for one number or one for each channel"
        )
    numbers: Array = values.reshape(-1)
    return numbers


def _clip(graph: NcnnGraph, node: NodeProto) -> None:
    low, high = graph.limits(node)
    graph.layer("Clip", node.input[:1], node.output[0], {0: low, 1: high})


def _unary(kind: str) -> Callable[[NcnnGraph, NodeProto], None]:
    return lambda graph, node: graph.layer(kind, node.input, node.output[0])


def _hard(kind: str) -> Callable[[NcnnGraph, NodeProto], None]:
    def translate(graph: NcnnGraph, node: NodeProto) -> None:
        slope = attributes_of(node) or {"alpha": 1 / 6, "beta": 0.5}
        graph.layer(kind, node.input, node.output[0], {0: float(slope["alpha"]), 1: float(slope["beta"])})

    return translate


def _average(graph: NcnnGraph, node: NodeProto) -> None:
    """Translate the mean over height and width, which ncnn gives as (C): it is made an image again."""
    output, channels = node.output[0], graph.shapes[node.input[0]][1]
    flat = f"{output}.flat"
    graph.layer("Pooling", node.input, flat, {0: 1, 4: 1})
    graph.layer("Reshape", [flat], output, {0: 1, 1: 1, 2: channels})


def _pool(kind: int) -> Callable[[NcnnGraph, NodeProto], None]:
    def translate(graph: NcnnGraph, node: NodeProto) -> None:
        attributes = attributes_of(node)
        if attributes.get("ceil_mode") or set(attributes.get("dilations", [1])) != {1}:
            raise ExportError("pooling with a dilation or ceil_mode cannot be written as an ncnn file")
        (down, along), (top, left, bottom, right) = attributes["strides"], attributes["pads"]
        height, width = attributes["kernel_shape"]
        sizes: dict[int, Parameter] = {0: kind, 1: width, 11: height, 2: along, 12: down}
        pads: dict[int, Parameter] = {3: left, 13: top, 14: right, 15: bottom, 5: 1}
        counted: dict[int, Parameter] = {6: attributes.get("count_include_pad", 0)}
        graph.layer("Pooling", node.input, node.output[0], sizes | pads | counted)

    return translate


def _concatenate(graph: NcnnGraph, node: NodeProto) -> None:
    axis = attributes_of(node)["axis"]
    if axis < 1:
        raise ExportError("a Concat of images, not of what they hold, cannot be written as an ncnn file")
    graph.layer("Concat", node.input, node.output[0], {0: axis - 1})


def _slice(graph: NcnnGraph, node: NodeProto) -> None:
    """Translate a choice of channels, the first axis of what ncnn holds of an image."""
    taken = channels_of(graph, node, "an ncnn file")
    graph.layer("Crop", node.input[:1], node.output[0], {9: [taken.start], 10: [taken.stop], 11: [0]})


def _same(graph: NcnnGraph, node: NodeProto) -> None:
    graph.places[node.output[0]] = graph.place(node.input[0])


_OPERATIONS: dict[str, Callable[[NcnnGraph, NodeProto], None]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Add": _binary(_ADD),
    "Sub": _binary(_SUBTRACT),
    "Mul": _binary(_MULTIPLY),
    "Clip": _clip,
    "Relu": _unary("ReLU"),
    "Sigmoid": _unary("Sigmoid"),
    "HardSigmoid": _hard("HardSigmoid"),
    "HardSwish": _hard("HardSwish"),
    "GlobalAveragePool": _average,
    "MaxPool": _pool(0),
    "AveragePool": _pool(1),
    "Concat": _concatenate,
    "Slice": _slice,
    "Flatten": _unary("Flatten"),
    "Cast": _same,
    "Identity": _same,
}
