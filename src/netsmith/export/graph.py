"""How each layer of PyTorch is written in ONNX. A new layer is one entry of a table here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from netsmith.nn.condense import Select
from netsmith.nn.layers import BatchNorm, BatchNormReLU, BatchNormReLU6, DepthwiseConv2d
from netsmith.nn.preprocess import Normalize

Array = np.ndarray[Any, np.dtype[Any]]


class UnknownOperationError(Exception):
    """An operation that the tables of this file do not hold; the caller falls back."""


class GraphWriter:
    """The nodes and constants of an ONNX graph under construction.

    ``scales``: whether a norm alone is a Mul and an Add, and not a depthwise convolution. ``layers`` are the
    nodes' names by those of the module's layers, ``parts`` what was split, by the name that stands for all of
    its parts, and into how many channels each.
    """

    def __init__(self, *, scales: bool = True) -> None:
        self.scales = scales
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.layers: dict[str, str] = {}
        self.parts: dict[str, tuple[str, int | list[int]]] = {}

    def constant(self, name: str, values: Array) -> str:
        """Add a constant tensor, once for each name, and return its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def node(
        self, op: str, inputs: Sequence[str], name: str, attributes: Mapping[str, Any] | None = None
    ) -> str:
        """Add a node with one output, and return the output's name, which is the node's own."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **(attributes or {})))
        return name


WriteModule = Callable[[GraphWriter, str, Any, str], str]


def conv(graph: GraphWriter, name: str, layer: nn.Conv2d, x: str, norm: nn.BatchNorm2d | None = None) -> str:
    """Write a convolution, with the batch norm that follows it folded into its weights."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise UnknownOperationError(f"padding {layer.padding!r} of mode '{layer.padding_mode}'")
    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        scale, shift = _scale_and_shift(norm)
        weight = weight * scale.view(-1, 1, 1, 1)
        bias = shift if bias is None else bias * scale + shift
    inputs = [x, graph.constant(f"{name}.weight", _numpy(weight))]
    if bias is not None:
        inputs.append(graph.constant(f"{name}.bias", _numpy(bias)))
    pads = [*map(int, layer.padding)] * 2
    attributes = {
        "kernel_shape": list(layer.kernel_size),
        "strides": list(layer.stride),
        "pads": pads,
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    return graph.node("Conv", inputs, name, attributes)


def relu6(graph: GraphWriter, name: str, x: str) -> str:
    """Write min(max(x, 0), 6)."""
    low, high = (graph.constant(f"clip.{v}", np.array(v, np.float32)) for v in (0, 6))
    return graph.node("Clip", [x, low, high], name)


def activation(graph: GraphWriter, name: str, norm: nn.BatchNorm2d, x: str) -> str:
    """Write what a norm of ours has behind it."""
    if isinstance(norm, BatchNormReLU6):
        return relu6(graph, name, x)
    return graph.node("Relu", [x], name) if isinstance(norm, BatchNormReLU) else x


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch norm at evaluation as x * scale + shift, each (C,) in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise UnknownOperationError("batch norm without running statistics")
    scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _numpy(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array


_ONE_BY_ONE = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1]}


def _batch_norm(graph: GraphWriter, name: str, layer: nn.BatchNorm2d, x: str) -> str:
    scale, shift = (_numpy(v).reshape(-1, 1, 1) for v in _scale_and_shift(layer))
    if not graph.scales:
        kernel = graph.constant(f"{name}.scale", scale[:, None])
        bias = graph.constant(f"{name}.shift", shift.reshape(-1))
        return graph.node("Conv", [x, kernel, bias], name, {**_ONE_BY_ONE, "group": len(scale)})
    scaled = graph.node("Mul", [x, graph.constant(f"{name}.scale", scale)], f"{name}.scaled")
    return graph.node("Add", [scaled, graph.constant(f"{name}.shift", shift)], name)


def _batch_norm_and_more(graph: GraphWriter, name: str, layer: nn.BatchNorm2d, x: str) -> str:
    return activation(graph, name, layer, _batch_norm(graph, f"{name}.norm", layer, x))


def _select(graph: GraphWriter, name: str, layer: Select, x: str) -> str:
    index = graph.constant(f"{name}.index", layer.index.to("cpu", torch.int64).numpy())
    return graph.node("Gather", [x, index], name, {"axis": 1})


def _normalize(graph: GraphWriter, name: str, layer: Normalize, x: str) -> str:
    real = graph.node("Cast", [x], f"{name}.float", {"to": TensorProto.FLOAT})
    scale, shift = (graph.constant(f"{name}.{k}", _numpy(getattr(layer, k))) for k in ("scale", "shift"))
    return graph.node("Add", [graph.node("Mul", [real, scale], f"{name}.scaled"), shift], name)


def _linear(graph: GraphWriter, name: str, layer: nn.Linear, x: str) -> str:
    inputs = [x, graph.constant(f"{name}.weight", _numpy(layer.weight))]
    if layer.bias is not None:
        inputs.append(graph.constant(f"{name}.bias", _numpy(layer.bias)))
    return graph.node("Gemm", inputs, name, {"transB": 1})


def _pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _max_pool(graph: GraphWriter, name: str, layer: nn.MaxPool2d, x: str) -> str:
    if layer.return_indices:
        raise UnknownOperationError("max pooling that returns indices")
    attributes = {
        "kernel_shape": _pair(layer.kernel_size),
        "strides": _pair(layer.stride),
        "pads": _pair(layer.padding) * 2,
        "dilations": _pair(layer.dilation),
        "ceil_mode": int(layer.ceil_mode),
    }
    return graph.node("MaxPool", [x], name, attributes)


def _average_pool(graph: GraphWriter, name: str, layer: nn.AvgPool2d, x: str) -> str:
    if layer.divisor_override is not None or layer.ceil_mode:
        raise UnknownOperationError("average pooling with its own divisor or ceil_mode")
    attributes = {
        "kernel_shape": _pair(layer.kernel_size),
        "strides": _pair(layer.stride),
        "pads": _pair(layer.padding) * 2,
        "count_include_pad": int(layer.count_include_pad),
    }
    return graph.node("AveragePool", [x], name, attributes)


def _adaptive_pool(graph: GraphWriter, name: str, layer: nn.AdaptiveAvgPool2d, x: str) -> str:
    if layer.output_size not in (1, (1, 1)):
        raise UnknownOperationError(f"adaptive pooling to {layer.output_size}")
    return graph.node("GlobalAveragePool", [x], name)


def _flatten(graph: GraphWriter, name: str, layer: nn.Flatten, x: str) -> str:
    return flatten_from(graph, name, x, layer.start_dim, layer.end_dim)


def flatten_from(graph: GraphWriter, name: str, x: str, start: int = 0, end: int = -1) -> str:
    """Write a flattening to one row an image."""
    if (start, end) != (1, -1):
        raise UnknownOperationError(f"flattening of dimensions {start} to {end}")
    return graph.node("Flatten", [x], name, {"axis": 1})


def padded(graph: GraphWriter, name: str, x: str, around: Sequence[int], value: float = 0.0) -> str:
    """Write ``value`` around an image: so much at the left, right, top and bottom."""
    left, right, top, bottom = map(int, around)
    pads = graph.constant(f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    return graph.node("Pad", [x, pads, graph.constant(f"{name}.value", np.array(value, np.float32))], name)


def silu(graph: GraphWriter, name: str, x: str) -> str:
    """Write x * sigmoid(x)."""
    return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{name}.gate")], name)


def _same(graph: GraphWriter, name: str, layer: nn.Module, x: str) -> str:
    return x


def _module(op: str, attributes: Mapping[str, Any] | None = None) -> WriteModule:
    return lambda graph, name, layer, x: graph.node(op, [x], name, attributes)


_HARD_SIGMOID = {"alpha": 1 / 6, "beta": 0.5}

MODULES: dict[type[nn.Module], WriteModule] = {
    nn.Conv2d: conv,
    DepthwiseConv2d: conv,
    nn.BatchNorm2d: _batch_norm,
    BatchNorm: _batch_norm,
    BatchNormReLU6: _batch_norm_and_more,
    BatchNormReLU: _batch_norm_and_more,
    Select: _select,
    Normalize: _normalize,
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.Flatten: _flatten,
    nn.ReLU6: lambda graph, name, layer, x: relu6(graph, name, x),
    nn.ReLU: _module("Relu"),
    nn.Sigmoid: _module("Sigmoid"),
    nn.Hardsigmoid: _module("HardSigmoid", _HARD_SIGMOID),
    nn.Hardswish: _module("HardSwish"),
    nn.LeakyReLU: lambda graph, name, layer, x: graph.node(
        "LeakyRelu", [x], name, {"alpha": float(layer.negative_slope)}
    ),
    nn.ELU: lambda graph, name, layer, x: graph.node("Elu", [x], name, {"alpha": float(layer.alpha)}),
    nn.Tanh: _module("Tanh"),
    nn.SiLU: lambda graph, name, layer, x: silu(graph, name, x),
    nn.ZeroPad2d: lambda graph, name, layer, x: padded(graph, name, x, layer.padding),
    nn.ConstantPad2d: lambda graph, name, layer, x: padded(graph, name, x, layer.padding, layer.value),
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.Identity: _same,
}
