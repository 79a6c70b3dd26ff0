"""Writing a network as an ExecuTorch file, from its ONNX graph.

The file is of the kind that ExecuTorch's own lowering to XNNPACK makes, the whole network in one delegate,
but written in milliseconds: the lowering traces a network some fifty times, which takes 12 s where it has 60
convolutions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, shape_inference

from netsmith.errors import ExportError, MissingExtraError
from netsmith.export.onnx_graph import attributes_of, channels_of, translate
from netsmith.export.scaled_graph import dequantize
from netsmith.export.seal import seal
from netsmith.export.xnnpack_graph import MOST_IMAGES, XnnpackGraph

_DELEGATE, _METHOD = "XnnpackBackend", "forward"
_ALIGNMENT = 16


def write_executorch(model: onnx.ModelProto, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of an ExecuTorch file that computes what ``model`` does.

    Its input is (N, C, H, W), of the model's type, with N from 1 to ``MOST_IMAGES``; ``metadata`` is named
    data beside the weights. Raises :class:`ExportError` on an operation that is not known here,
    :class:`MissingExtraError` without ExecuTorch, whose schemas these are.
    """
    try:
        with _quiet():
            from executorch.backends.xnnpack.serialization import (
                xnnpack_graph_schema,
                xnnpack_graph_serialize,
            )
            from executorch.exir import schema
            from executorch.exir._serialize import _program
            from executorch.exir._serialize._named_data_store import NamedDataStore
            from executorch.exir.scalar_type import ScalarType
    except ImportError:
        raise MissingExtraError("executorch", "executorch", "writing an ExecuTorch file") from None
    graph = XnnpackGraph(xnnpack_graph_schema, shape_inference.infer_shapes(model).graph)
    translate(graph, _OPERATIONS, "an ExecuTorch file")
    delegated = xnnpack_graph_serialize.serialize_xnnpack_binary(graph.finish(), bytearray())
    kinds = {"uint8": ScalarType.BYTE, "float32": ScalarType.FLOAT}
    program = _program_of(
        schema,
        delegated,
        (graph.shapes[graph.source.input[0].name], kinds[graph.input_type]),
        (graph.shapes[graph.source.output[0].name], ScalarType.FLOAT),
    )
    store = NamedDataStore()
    notes = {name: text.encode() for name, text in (metadata or {}).items()}
    for name, data in (graph.data | notes).items():
        store.add_named_data(name, data, _ALIGNMENT)
    file = _program.PTEFile(program=program, named_data=store.get_named_data_store_output())
    packed = _program.serialize_pte_binary(file, extract_delegate_segments=True)
    return seal(bytes(packed))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what ExecuTorch's packages log of GPU kernels that they do not find when they are loaded."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def _program_of(schema: Any, delegated: bytes, given: tuple[Any, Any], asked: tuple[Any, Any]) -> Any:
    """Return a program of one method that calls the delegate, by the shapes and types of input and output."""
    tensors = [
        schema.EValue(
            schema.Tensor(
                scalar_type=kind,
                storage_offset=0,
                sizes=[MOST_IMAGES, *shape[1:]],
                dim_order=list(range(len(shape))),
                requires_grad=False,
                layout=0,
                data_buffer_idx=0,
                allocation_info=None,  # the caller's memory
                shape_dynamism=schema.TensorShapeDynamism.DYNAMIC_BOUND,
            )
        )
        for shape, kind in (given, asked)
    ]
    call = schema.Instruction(schema.DelegateCall(delegate_index=0, args=[0, 1]))
    plan = schema.ExecutionPlan(
        name=_METHOD,
        container_meta_type=schema.ContainerMetadata("", ""),
        values=tensors,
        inputs=[0],
        outputs=[1],
        chains=[schema.Chain(inputs=[], outputs=[], instructions=[call], stacktrace=None)],
        operators=[],
        delegates=[
            schema.BackendDelegate(
                id=_DELEGATE,
                processed=schema.BackendDelegateDataReference(schema.DataLocation.INLINE, 0),
                compile_specs=[],
            )
        ],
        non_const_buffer_sizes=[0],
    )
    return schema.Program(
        version=0,
        execution_plan=[plan],
        constant_buffer=[schema.Buffer(b"")],
        backend_delegate_data=[schema.BackendDelegateInlineData(delegated)],
        segments=[],
        constant_segment=schema.SubsegmentOffsets(segment_index=0, offsets=[]),
    )


def _convolution(graph: XnnpackGraph, node: NodeProto) -> None:
    attributes, kernel = attributes_of(node), graph.constants[node.input[1]]
    groups, channels = attributes["group"], graph.shapes[node.input[0]][1]
    depthwise = groups == channels and groups > 1
    place, limits, integers = graph.result(node)
    x = graph.operand(node.input[0], integers)
    # (out, in, h, w) becomes (out, h, w, in), or (1, h, w, out) where each channel has its own kernel.
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    weight = graph.weight(node.input[1], order, axis, integers)
    top, left, bottom, right = attributes["pads"]
    kind = graph.schema.XNNDepthwiseConv2d if depthwise else graph.schema.XNNConv2d
    graph.operate(
        kind(
            padding_top=top,
            padding_right=right,
            padding_bottom=bottom,
            padding_left=left,
            kernel_height=kernel.shape[2],
            kernel_width=kernel.shape[3],
            subsampling_height=attributes["strides"][0],
            subsampling_width=attributes["strides"][1],
            dilation_height=attributes["dilations"][0],
            dilation_width=attributes["dilations"][1],
            group_input_channels=channels // groups,
            group_output_channels=len(kernel) // groups,
            groups=groups,
            adjustment_height=0,
            adjustment_width=0,
            input1_id=x,
            filter_id=weight,
            bias_id=graph.bias(node, integers),
            output_id=place,
            flags=0,
        ),
        limits,
    )


def _linear(graph: XnnpackGraph, node: NodeProto) -> None:
    if attributes_of(node) != {"transB": 1}:
        raise ExportError(
            f"a Gemm of {attributes_of(node)} cannot be written as an ExecuTorch file, but for "
            "that of a linear layer"
        )
    place, limits, integers = graph.result(node)
    x = graph.operand(node.input[0], integers)
    weight = graph.weight(node.input[1], (0, 1), 0, integers)
    bias = graph.bias(node, integers)
    graph.operate(graph.schema.XNNFullyConnected(x, weight, bias, place, 0), limits)


def _binary(kind: str) -> Callable[[XnnpackGraph, NodeProto], None]:
    def translate(graph: XnnpackGraph, node: NodeProto) -> None:
        place, limits, integers = graph.result(node)
        first, second = (graph.operand(name, integers) for name in node.input)
        graph.operate(getattr(graph.schema, kind)(first, second, place, 0), limits)

    return translate


def _unary(kind: str) -> Callable[[XnnpackGraph, NodeProto], None]:
    def translate(graph: XnnpackGraph, node: NodeProto) -> None:
        place = graph.real_result(node.output[0])
        graph.operate(getattr(graph.schema, kind)(graph.real(node.input[0]), place, 0))

    return translate


def _clip(graph: XnnpackGraph, node: NodeProto) -> None:
    limits, place = graph.limits(node), graph.real_result(node.output[0])
    graph.operate(graph.schema.XNNClamp(graph.real(node.input[0]), place, 0), limits)


_KEEP_DIMENSIONS = 0x40


def _average(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate the mean over height and width."""
    place, _, integers = graph.result(node, clips=False)
    x = graph.operand(node.input[0], integers)
    graph.operate(graph.schema.XNNGlobalAvgPooling2d(x, place, _KEEP_DIMENSIONS))


def _average_pool(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate the average of windows, in which padding has no part; XNNPACK has it of reals alone."""
    if any(attributes_of(node)["pads"]) and attributes_of(node).get("count_include_pad"):
        raise ExportError("an average over padding cannot be written as an ExecuTorch file")
    place = graph.real_result(node.output[0])
    graph.operate(_windows(graph.schema.XNNAvgPooling2d, node, graph.real(node.input[0]), place))


def _max_pool(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate the maximum of windows; integers keep their scale in it."""
    place, x = graph.kept(node)
    graph.operate(_windows(graph.schema.XNNMaxPooling2d, node, x, place))


def _windows(kind: Any, node: NodeProto, x: int, place: int) -> Any:
    """The pooling of a ``kind`` of the schema. Raises :class:`ExportError` where XNNPACK has no such."""
    attributes = {"dilations": [1, 1], **attributes_of(node)}
    if attributes.get("ceil_mode"):
        raise ExportError("pooling with ceil_mode cannot be written as an ExecuTorch file")
    top, left, bottom, right = attributes["pads"]
    return kind(
        padding_top=top,
        padding_right=right,
        padding_bottom=bottom,
        padding_left=left,
        pooling_height=attributes["kernel_shape"][0],
        pooling_width=attributes["kernel_shape"][1],
        stride_height=attributes["strides"][0],
        stride_width=attributes["strides"][1],
        dilation_height=attributes["dilations"][0],
        dilation_width=attributes["dilations"][1],
        input_id=x,
        output_id=place,
        flags=0,
    )


def _slice(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate a choice of channels, which are last here; integers keep their scale in it."""
    taken, rank = channels_of(graph, node, "an ExecuTorch file"), len(graph.shapes[node.input[0]])
    place, x = graph.kept(node)
    # A size of 0 is all that there is.
    offsets, sizes = ([0] * (rank - 1) + [own] for own in (taken.start, len(taken)))
    graph.operate(graph.schema.XNNStaticSlice(rank, offsets, sizes, x, place, 0))


_MOST_JOINED = 5  # by XNNPACK


def _concatenate(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate a Concat of channels; integers are brought to the scale of the output first."""
    count = len(node.input)
    if attributes_of(node)["axis"] != 1 or not 2 <= count <= _MOST_JOINED:
        raise ExportError(
            f"a Concat that is not of 2 to {_MOST_JOINED} images by their channels cannot be written as an "
            "ExecuTorch file"
        )
    place, _, integers = graph.result(node, clips=False)
    inputs = [graph.operand(name, integers) for name in node.input]
    if integers:
        inputs = [graph.rescaled(i, place) for i in inputs]
    numbers = {f"input{i + 1}_id": value for i, value in enumerate(inputs + [0] * (_MOST_JOINED - count))}
    kind = getattr(graph.schema, f"XNNConcatenate{count}")
    graph.operate(kind(axis=3, output_id=place, flags=0, **numbers))


def _flatten(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate (N, C, H, W) to (N, C * H * W), in ONNX's order."""
    _, *sizes = graph.shapes[node.input[0]]
    place, _, integers = graph.result(node, clips=False)
    x = graph.operand(node.input[0], integers)
    if len(sizes) == 3 and sizes[1:] != [1, 1]:
        x = graph.transposed(x, (0, 3, 1, 2))
    graph.operate(graph.schema.XNNStaticReshape(2, [0, int(np.prod(sizes))], x, place, 0))


def _same(graph: XnnpackGraph, node: NodeProto) -> None:
    """Leave a value as it is; pixels are whole numbers of scale 1, made real where that is needed."""
    graph.places[node.output[0]] = graph.places[node.input[0]]


def _quantize(graph: XnnpackGraph, node: NodeProto) -> None:
    """Translate a QuantizeLinear whose input was not computed in integers, or with another scale."""
    place = graph.output(node.output[0], graph.scale_of(node))
    graph.operate(graph.schema.XNNConvert(graph.real(node.input[0]), place, 0))
    graph.places[node.output[0]] = place


_OPERATIONS: dict[str, Callable[[XnnpackGraph, NodeProto], None]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Add": _binary("XNNAdd"),
    "Sub": _binary("XNNSubtract"),
    "Mul": _binary("XNNMultiply"),
    "Clip": _clip,
    "Relu": _clip,
    "Sigmoid": _unary("XNNSigmoid"),
    "HardSwish": _unary("XNNHardswish"),
    "GlobalAveragePool": _average,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Slice": _slice,
    "Concat": _concatenate,
    "Flatten": _flatten,
    "Cast": _same,
    "Identity": _same,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": dequantize,
}
