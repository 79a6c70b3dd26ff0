"""Writing a module as an ONNX file.

A network of known layers is written directly, in milliseconds, which is what makes a table of
hundreds of blocks cheap; any other module goes through PyTorch's exporter, in seconds.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, shape_inference
from torch import fx, nn

from netsmith.errors import ExportError
from netsmith.export.calls import parts_of, write_call
from netsmith.export.graph import (
    MODULES,
    Array,
    GraphWriter,
    UnknownOperationError,
    activation,
    conv,
)
from netsmith.export.quantize import quantize
from netsmith.nn.condense import deployed

OPSET, IR_VERSION = 18, 8  # what runtimes of 2023 and later read, and PyTorch's exporter writes
INPUT, OUTPUT = "images", "logits"

_RANDOM_IMAGES = 8

InputType = Literal["float32", "uint8"]
Precision = Literal["float32", "int8"]

_log = logging.getLogger(__name__)


def write_onnx(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    input_type: InputType = "float32",
    metadata: Mapping[str, str] | None = None,
    precision: Precision = "float32",
    calibration: Array | None = None,
    floating: Collection[str] = (),
    select: bool = True,
) -> bytes:
    """Write ``module`` as it computes at evaluation, and return the file's bytes.

    The file's one input ``images`` is (N, C, H, W) with N free, of ``input_type``, and its one
    output is ``logits``; ``metadata`` is kept in the file as text. Batch norms are folded into the
    convolutions before them. Of ``precision`` int8, activations have the ranges that ``calibration``, (N, C,
    H, W) of ``input_type``, gives them; random pixels where it is None, which is enough for a latency. The
    layers ``floating``, by their names in ``module``, stay float32 in it.

    What condenses is written condensed (:func:`netsmith.nn.condense.deployed`): in float32 with ``select``,
    as a Gather of channels and a grouped convolution, else as dense weights with zeros. The second is a
    larger file, but what runtimes without a fast Gather take, or are faster by. Raises :class:`ExportError`
    where neither way can write the module.
    """
    model = to_onnx(
        module,
        input_shape,
        input_type=input_type,
        precision=precision,
        calibration=calibration,
        floating=floating,
        select=select,
    )
    helper.set_model_props(model, dict(metadata or {}))
    data: bytes = model.SerializeToString()
    return data


def to_onnx(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    input_type: InputType = "float32",
    precision: Precision = "float32",
    calibration: Array | None = None,
    floating: Collection[str] = (),
    select: bool = True,
) -> onnx.ModelProto:
    """Return the graph that :func:`write_onnx` writes."""
    module = deployed(module, select=select and precision == "float32")
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    nodes: Mapping[str, str] = {}
    try:
        model, nodes = _write_directly(module, input_shape, input_type, precision)
    except UnknownOperationError as reason:
        _log.warning(
            "%s is not written directly (%s): using torch.onnx.export, which takes seconds",
            type(module).__name__,
            reason,
        )
        model = _write_by_pytorch(module, input_shape, input_type)
    finally:
        for layer, training in modes.items():
            layer.training = training
    if precision == "int8":
        images = _random_pixels(input_shape, input_type) if calibration is None else calibration
        model = quantize(model, images, _nodes_of(floating, nodes))
    return model


def read_metadata(model: bytes) -> dict[str, str]:
    """Return the text that :func:`write_onnx` kept in a file. Raises :class:`ExportError` if it is none."""
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's own classes differ between its versions
        raise ExportError(f"not an ONNX file: {error}") from error
    return {entry.key: entry.value for entry in proto.metadata_props}


def _random_pixels(input_shape: tuple[int, int, int], input_type: InputType) -> Array:
    """Return the same pixels at every call: 0..255, or 0..1 for float32."""
    rng, shape = np.random.default_rng(0), (_RANDOM_IMAGES, *input_shape)
    if input_type == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape, dtype=np.float32)


class _Tracer(fx.Tracer):
    """Traces down to the layers that have an entry in ``MODULES``."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in MODULES

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Go through the parts of a split whose sizes are listed; what else is iterated over is an error."""
        count = parts_of(obj.node)
        if count is None:
            return super().iter(obj)
        return (self.create_proxy("call_function", operator.getitem, (obj, i), {}) for i in range(count))


def _write_directly(
    module: nn.Module, input_shape: tuple[int, int, int], input_type: InputType, precision: Precision
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Write a module of known operations, and say which node each of its layers is.

    Raises :class:`UnknownOperationError` on any other.
    """
    # A convolution has a scale of integers for each channel; the factors of a Mul would share one.
    writer = GraphWriter(scales=precision == "float32")
    output = write_nodes(writer, module)
    kind = TensorProto.UINT8 if input_type == "uint8" else TensorProto.FLOAT
    writer.node("Identity", [output], OUTPUT)
    graph = helper.make_graph(
        writer.nodes,
        "netsmith",
        [helper.make_tensor_value_info(INPUT, kind, ["batch", *input_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
        list(writer.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="netsmith"
    )
    try:
        return shape_inference.infer_shapes(model, strict_mode=True), writer.layers
    except shape_inference.InferenceError as error:
        raise ExportError(f"a module for images of {input_shape} does not fit them: {error}") from error


def write_nodes(writer: GraphWriter, module: nn.Module) -> str:
    """Write every operation of ``module`` and return the name of the last one's output."""
    # A root that is itself a leaf would trace into its own forward.
    root = module if type(module) not in MODULES else nn.Sequential(module)
    try:
        graph = _Tracer().trace(root)
    except Exception as error:  # a forward that cannot be traced may raise anything
        raise UnknownOperationError(f"not traceable: {error}") from error
    # Weights that a forward only looked at, to choose its way, are no part of the network.
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
    layers: dict[str, Any] = dict(root.named_modules())
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node in names:  # a batch norm already folded
            continue
        if node.op == "placeholder":
            names[node] = INPUT
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or names[node.args[0]] in writer.parts:
                raise UnknownOperationError("a network with several outputs")
            return names[node.args[0]]
        elif node.op == "call_module":
            _write_module(writer, node, layers, names)
        elif node.op in ("call_function", "call_method"):
            names[node] = write_call(writer, node, names)
        else:
            names[node] = _write_constant(writer, root, str(node.target))
    raise UnknownOperationError("a network without an output")


def _write_constant(writer: GraphWriter, root: nn.Module, path: str) -> str:
    """Write a tensor that a forward reads directly."""
    owner, _, name = path.rpartition(".")
    tensor = getattr(root.get_submodule(owner), name)
    if not isinstance(tensor, torch.Tensor):
        raise UnknownOperationError(f"the constant '{path}', which is no tensor")
    return writer.constant(f"constant.{path}", tensor.detach().cpu().numpy())


def _write_module(
    writer: GraphWriter, node: fx.Node, layers: Mapping[str, Any], names: dict[fx.Node, str]
) -> None:
    """Write a layer; a convolution takes the batch norm that alone reads it along."""
    layer, x = layers[str(node.target)], names[node.all_input_nodes[0]]
    writer.layers[str(node.target)] = node.name
    norm_node = next(iter(node.users), None)
    folds = (
        isinstance(layer, nn.Conv2d)
        and norm_node is not None
        and len(node.users) == 1
        and norm_node.op == "call_module"
        and isinstance(layers[str(norm_node.target)], nn.BatchNorm2d)
    )
    if not folds or norm_node is None:
        names[node] = MODULES[type(layer)](writer, node.name, layer, x)
        return
    norm = layers[str(norm_node.target)]
    names[node] = conv(writer, node.name, layer, x, norm)
    names[norm_node] = activation(writer, norm_node.name, norm, names[node])


def _nodes_of(layers: Collection[str], nodes: Mapping[str, str]) -> list[str]:
    """The nodes that layers are written as. Raises :class:`ExportError` where one is not known."""
    unknown = sorted(set(layers) - set(nodes))
    if unknown:
        raise ExportError(
            f"layers that stay float32 are named as in the module, such as {', '.join(list(nodes)[:3])}; got "
            f"{', '.join(unknown)}"
            + ("" if nodes else ". Of a module that PyTorch's exporter writes, none can be named")
        )
    return [nodes[layer] for layer in layers]


def _write_by_pytorch(
    module: nn.Module, input_shape: tuple[int, int, int], input_type: InputType
) -> onnx.ModelProto:
    """Write any module that ``torch.export`` takes."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    example = torch.zeros((2, *input_shape), dtype=getattr(torch, input_type), device=device)
    batch = torch.export.Dim("batch")
    try:
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch},),
        )
        assert program is not None  # it is one whenever dynamo is on and no file is named
        model: onnx.ModelProto = program.model_proto
    except Exception as error:  # the exporter raises classes of several libraries
        raise ExportError(
            f"{type(module).__name__} cannot be written as ONNX: {error}. Use layers that "
            "torch.onnx.export knows, and no control flow that depends on the data"
        ) from error
    return model
