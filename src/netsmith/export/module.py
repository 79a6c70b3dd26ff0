"""Reading an ONNX file as a PyTorch module: what PyTorch itself runs on its devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import NodeProto, TensorProto, numpy_helper
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.inputs import input_of
from netsmith.export.onnx_graph import attributes_of

Operation = Callable[[list[torch.Tensor], Mapping[str, Any]], torch.Tensor]
_TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.UINT8: torch.uint8}


class OnnxModule(nn.Module):
    """Computes what an ONNX file does, in float32.

    It knows the operations that :mod:`netsmith.export.graph` writes, and holds weights with channels last.
    Takes (N, C, H, W) of the file's type. Raises :class:`ExportError` on a file that is not ONNX, whose
    nodes are not in order, or with an operation that is not known here.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        input_of(model)
        graph = onnx.load_model_from_string(model).graph
        constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
        (self._input,) = (value.name for value in graph.input if value.name not in constants)
        self._output = graph.output[0].name
        self._places = {name: f"constant{number}" for number, name in enumerate(constants)}
        for name, place in self._places.items():
            self.register_buffer(place, constants[name])
        self._steps = [_step(node) for node in graph.node]
        known = {self._input, *constants}
        for node in graph.node:
            lacking = sorted({name for name in node.input if name} - known)
            if lacking or len(node.output) != 1:
                raise ExportError(
                    f"the {node.op_type} '{node.name}' reads {lacking}, which nothing before gives"
                )
            known.add(node.output[0])
        if self._output not in known:
            raise ExportError(f"nothing gives the output '{self._output}'")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the file's output for x (N, C, H, W)."""
        values = {name: getattr(self, place) for name, place in self._places.items()}
        values[self._input] = x
        for operation, inputs, attributes, output in self._steps:
            values[output] = operation([values[name] for name in inputs], attributes)
        result: torch.Tensor = values[self._output]
        return result


def _tensor(tensor: TensorProto) -> torch.Tensor:
    values = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def _step(node: NodeProto) -> tuple[Operation, list[str], dict[str, Any], str]:
    operation = _OPERATIONS.get(node.op_type)
    if operation is None:
        raise ExportError(
            f"operation '{node.op_type}' cannot be run by PyTorch; known: {', '.join(_OPERATIONS)}"
        )
    return operation, list(node.input), attributes_of(node), node.output[0]


def _padded(x: torch.Tensor, attributes: Mapping[str, Any], value: float = 0.0) -> torch.Tensor:
    """Surround an image as ``pads`` says: top, left, bottom, right."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return F.pad(x, (left, right, top, bottom), value=value)


def _convolution(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, weight, *bias = inputs
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    even = (top, left) == (bottom, right)
    return F.conv2d(
        x if even else _padded(x, attributes),
        weight,
        bias[0] if bias else None,
        stride=attributes.get("strides", 1),
        padding=(top, left) if even else 0,
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    )


def _linear(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, weight, *bias = inputs
    if attributes != {"transB": 1}:
        raise ExportError(f"a Gemm of {dict(attributes)} cannot be run, but for that of a linear layer")
    return F.linear(x, weight, bias[0] if bias else None)


def _max_pool(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    return F.max_pool2d(
        _padded(inputs[0], attributes, -torch.inf),
        attributes["kernel_shape"],
        attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise ExportError("an average over padding that is not even cannot be run")
    return F.avg_pool2d(
        inputs[0],
        attributes["kernel_shape"],
        attributes.get("strides", 1),
        (top, left),
        count_include_pad=bool(attributes.get("count_include_pad", 0)),
    )


def _gather(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, index = inputs
    if index.ndim != 1:
        raise ExportError(
            f"a Gather by numbers of {index.ndim} dimensions cannot be run, but for those of one"
        )
    return x.index_select(attributes.get("axis", 0), index)


def _clip(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, low, high = inputs
    return torch.clamp(x, low, high)


def _hard_sigmoid(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0, 1)


def _cast(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    if attributes["to"] not in _TYPES:
        raise ExportError(f"a Cast to type {attributes['to']} cannot be run")
    return inputs[0].to(_TYPES[attributes["to"]])


_OPERATIONS: dict[str, Operation] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Add": lambda inputs, attributes: inputs[0] + inputs[1],
    "Sub": lambda inputs, attributes: inputs[0] - inputs[1],
    "Mul": lambda inputs, attributes: inputs[0] * inputs[1],
    "Clip": _clip,
    "Relu": lambda inputs, attributes: F.relu(inputs[0]),
    "Sigmoid": lambda inputs, attributes: torch.sigmoid(inputs[0]),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda inputs, attributes: F.hardswish(inputs[0]),
    "GlobalAveragePool": lambda inputs, attributes: inputs[0].mean((2, 3), keepdim=True),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Gather": _gather,
    "Concat": lambda inputs, attributes: torch.cat(inputs, attributes["axis"]),
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Cast": _cast,
    "Identity": lambda inputs, attributes: inputs[0],
}
