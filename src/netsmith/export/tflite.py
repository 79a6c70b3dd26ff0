"""Writing a network as a TFLite file, from its ONNX graph.

The graph is the small one that :mod:`netsmith.export.onnx` writes, in float32 or with its
quantise-dequantise pairs, whose scales and zero points a TFLite file takes as they are. There, images are
(N, H, W, C): the input is transposed, and every kernel with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, shape_inference

from netsmith.errors import ExportError, MissingExtraError
from netsmith.export.onnx_graph import attributes_of, channels_of, translate
from netsmith.export.scaled_graph import Scale, dequantize
from netsmith.export.tflite_graph import TfliteGraph

_FILE_IDENTIFIER = b"TFL3"


def write_tflite(model: onnx.ModelProto, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a TFLite file that computes what ``model`` does, with N free.

    Its input is (N, H, W, C), of the model's type. Raises :class:`ExportError` on an operation that is not
    known here, :class:`MissingExtraError` without LiteRT, whose schema this is.
    """
    try:
        import ai_edge_litert.schema_py_generated as schema
        import flatbuffers
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "litert", "writing a TFLite file") from None
    graph = TfliteGraph(schema, shape_inference.infer_shapes(model).graph)
    translate(graph, _OPERATIONS, "TFLite")
    packed = flatbuffers.Builder(1 << 16)
    packed.Finish(graph.model(metadata or {}).Pack(packed), _FILE_IDENTIFIER)
    return bytes(packed.Output())


def _convolution(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate a convolution; one that no padding of TFLite fits is padded by an operation before it."""
    schema, attributes = graph.schema, attributes_of(node)
    groups, (stride, _) = attributes.get("group", 1), attributes["strides"]
    channels = graph.shapes[node.input[0]][1]
    depthwise = groups == channels and groups > 1
    image = graph.places[node.input[0]]
    place, activation, integers = graph.result(node)
    x = image if integers else graph.real(node.input[0])
    padding = schema.Padding.SAME
    if not _pads_as_same(attributes, graph.shapes[node.input[0]][2:]):
        x, padding = _pad(graph, node, x, attributes["pads"]), schema.Padding.VALID
    common = {
        "padding": padding,
        "strideW": stride,
        "strideH": stride,
        "fusedActivationFunction": activation,
        "dilationWFactor": attributes["dilations"][0],
        "dilationHFactor": attributes["dilations"][1],
    }
    # (out, in, h, w) becomes (out, h, w, in), or (1, h, w, out) where each channel has its own kernel.
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    kernel = graph.weight(node.input[1], order, axis)
    inputs = [x, kernel, graph.bias(node, x, kernel)]
    if depthwise:
        several = len(graph.constants[node.input[1]]) // groups
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=several, **common)
        graph.operate("DEPTHWISE_CONV_2D", inputs, place, options)
    else:
        graph.operate("CONV_2D", inputs, place, schema.Conv2DOptionsT(**common))


def _pads_as_same(attributes: Mapping[str, Any], sizes: Sequence[int]) -> bool:
    """Whether the pads of a convolution are those of TFLite's SAME, the odd one at the end."""
    rows = zip(sizes, attributes["kernel_shape"], attributes["strides"], attributes["dilations"], strict=True)
    totals = [max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size) for size, k, s, d in rows]
    same = [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]
    return same == list(attributes["pads"])


def _pad(graph: TfliteGraph, node: NodeProto, x: int, pads: Sequence[int]) -> int:
    """Surround an image by zeros, which integers have too."""
    top, left, bottom, right = pads
    if not any(pads):
        return x
    batch, channels, height, width = graph.shapes[node.input[0]]
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    before = graph.tensors[x].quantization
    scale = None
    if before is not None:
        scale = Scale(np.array(before.scale), np.array(before.zeroPoint))
    padded = graph.tensor(
        f"{node.output[0]}.padded",
        (batch, channels, height + top + bottom, width + left + right),
        np.float32 if scale is None else np.int8,
        scale,
    )
    constant = graph.tensor(f"{node.output[0]}.pads", (), np.int32, None, amounts)
    graph.operate("PAD", [x, constant], padded, graph.schema.PadOptionsT())
    return padded


def _linear(graph: TfliteGraph, node: NodeProto) -> None:
    if attributes_of(node) != {"transB": 1}:
        raise ExportError(
            f"a Gemm of {attributes_of(node)} cannot be written as TFLite, but for that of a linear layer"
        )
    place, activation, integers = graph.result(node)
    x, kernel = graph.operand(node.input[0], integers), graph.weight(node.input[1], (0, 1), 0)
    inputs = [x, kernel, graph.bias(node, x, kernel)]
    options = graph.schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
    graph.operate("FULLY_CONNECTED", inputs, place, options)


def _binary(code: str) -> Callable[[TfliteGraph, NodeProto], None]:
    def translate(graph: TfliteGraph, node: NodeProto) -> None:
        place, activation, integers = graph.result(node)
        options = getattr(graph.schema, f"{code.capitalize()}OptionsT")(fusedActivationFunction=activation)
        graph.operate(code, [graph.operand(name, integers) for name in node.input], place, options)

    return translate


def _unary(code: str) -> Callable[[TfliteGraph, NodeProto], None]:
    def translate(graph: TfliteGraph, node: NodeProto) -> None:
        place = graph.tensor(node.output[0], graph.shapes[node.output[0]], np.float32)
        graph.operate(code, [graph.real(node.input[0])], place)
        graph.places[node.output[0]] = place

    return translate


def _clip(graph: TfliteGraph, node: NodeProto) -> None:
    if not graph.is_relu6(node):
        raise ExportError("a Clip to other limits than 0 and 6 cannot be written as TFLite")
    _unary("RELU6")(graph, node)


def _average(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate the mean over height and width."""
    place, _, integers = graph.result(node, clips=False)
    axes = graph.tensor(f"{node.output[0]}.axes", (), np.int32, None, np.array([1, 2], np.int32))
    inputs = [graph.operand(node.input[0], integers), axes]
    graph.operate("MEAN", inputs, place, graph.schema.ReducerOptionsT(keepDims=True))


def _average_pool(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate the average of windows, of reals: XNNPACK has it of no others."""
    place = graph.tensor(node.output[0], graph.shapes[node.output[0]], np.float32)
    graph.operate("AVERAGE_POOL_2D", [graph.real(node.input[0])], place, _windows(graph, node))
    graph.places[node.output[0]] = place


def _max_pool(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate the maximum of windows; integers keep their scale in it."""
    place, x = graph.kept(node)
    graph.operate("MAX_POOL_2D", [x], place, _windows(graph, node))


def _windows(graph: TfliteGraph, node: NodeProto) -> Any:
    """The options of a pooling. Raises :class:`ExportError` on padding that TFLite does not have."""
    attributes = {"dilations": [1, 1], "ceil_mode": 0, "count_include_pad": 0, **attributes_of(node)}
    padding = graph.schema.Padding.VALID
    if any(attributes["pads"]):
        padding = graph.schema.Padding.SAME
        if attributes["count_include_pad"]:
            raise ExportError("an average over padding cannot be written as TFLite")
        if not _pads_as_same(attributes, graph.shapes[node.input[0]][2:]):
            raise ExportError(f"pooling with pads {attributes['pads']} cannot be written as TFLite")
    if attributes["ceil_mode"] or attributes["dilations"] != [1, 1]:
        raise ExportError("pooling with a dilation or ceil_mode cannot be written as TFLite")
    (height, width), (down, along) = attributes["kernel_shape"], attributes["strides"]
    return graph.schema.Pool2DOptionsT(
        padding=padding, strideH=down, strideW=along, filterHeight=height, filterWidth=width
    )


def _slice(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate a choice of channels, which are last here; integers keep their scale in it."""
    taken, rank = channels_of(graph, node, "TFLite"), len(graph.shapes[node.input[0]])
    place, x = graph.kept(node)
    before = [0] * (rank - 1)
    bounds = [
        graph.tensor(f"{node.output[0]}.{name}", (), np.int32, None, np.array(values, np.int32))
        for name, values in (
            ("begin", [*before, taken.start]),
            ("end", [*before, taken.stop]),
            ("strides", [1] * rank),
        )
    ]
    whole = 2 ** (rank - 1) - 1  # a bit for each dimension that is taken whole
    options = graph.schema.StridedSliceOptionsT(beginMask=whole, endMask=whole)
    graph.operate("STRIDED_SLICE", [x, *bounds], place, options)  # XNNPACK's Slice has no free N


def _concatenate(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate a Concat of channels; integers are brought to the scale of the output first."""
    if attributes_of(node)["axis"] != 1 or len(graph.shapes[node.input[0]]) != 4:
        raise ExportError("a Concat that is not of images by their channels cannot be written as TFLite")
    place, _, integers = graph.result(node, clips=False)
    inputs = [graph.operand(name, integers) for name in node.input]
    if integers:
        inputs = [graph.rescaled(i, place) for i in inputs]
    graph.operate("CONCATENATION", inputs, place, graph.schema.ConcatenationOptionsT(axis=3))


def _flatten(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate (N, C, H, W) to (N, C * H * W), in ONNX's order."""
    _, *sizes = graph.shapes[node.input[0]]
    place, _, integers = graph.result(node, clips=False)
    x = graph.operand(node.input[0], integers)
    scale = None
    if integers:
        held = graph.tensors[x].quantization
        scale = Scale(np.array(held.scale), np.array(held.zeroPoint))
    if len(sizes) == 3 and sizes[1:] != [1, 1]:
        order = graph.tensor(f"{node.output[0]}.order", (), np.int32, None, np.array([0, 3, 1, 2], np.int32))
        channels, height, width = sizes
        # A tensor of this layout is not an image to the graph: its sizes are given as they stand.
        moved = graph.tensor(
            f"{node.output[0]}.moved",
            (0, width, channels, height),
            np.int8 if integers else np.float32,
            scale,
        )
        graph.operate("TRANSPOSE", [x, order], moved, graph.schema.TransposeOptionsT())
        x = moved
    shape = np.array([-1, int(np.prod(sizes))], np.int32)
    constant = graph.tensor(f"{node.output[0]}.shape", (), np.int32, None, shape)
    options = graph.schema.ReshapeOptionsT(newShape=shape.tolist())
    graph.operate("RESHAPE", [x, constant], place, options)


def _cast(graph: TfliteGraph, node: NodeProto) -> None:
    """Leave pixels as they are: whole numbers of scale 1, made real where that is needed."""
    graph.places[node.output[0]] = graph.places[node.input[0]]


def _quantize(graph: TfliteGraph, node: NodeProto) -> None:
    """Translate a QuantizeLinear whose input was not computed in integers, or with another scale."""
    place = graph.output(node.output[0], graph.scale_of(node))
    graph.operate("QUANTIZE", [graph.places[node.input[0]]], place)
    graph.places[node.output[0]] = place


def _same(graph: TfliteGraph, node: NodeProto) -> None:
    graph.places[node.output[0]] = graph.places[node.input[0]]


_OPERATIONS: dict[str, Callable[[TfliteGraph, NodeProto], None]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Add": _binary("ADD"),
    "Mul": _binary("MUL"),
    "Clip": _clip,
    "Relu": _unary("RELU"),
    "GlobalAveragePool": _average,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Slice": _slice,
    "Concat": _concatenate,
    "Flatten": _flatten,
    "Cast": _cast,
    "Identity": _same,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": dequantize,
}
