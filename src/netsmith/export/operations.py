"""ONNX nodes of several inputs, or without weights, as functions of PyTorch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from onnx import TensorProto

from netsmith.errors import ExportError

Operation = Callable[[list[torch.Tensor], Mapping[str, Any]], torch.Tensor]
_TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.UINT8: torch.uint8}


def _clip(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, low, high = inputs
    return torch.clamp(x, low, high)


def _gather(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, index = inputs
    if index.ndim != 1:
        raise ExportError(
            f"a Gather by numbers of {index.ndim} dimensions cannot be run, but for those of one"
        )
    return x.index_select(attributes.get("axis", 0), index)


def _hard_sigmoid(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * inputs[0] + attributes.get("beta", 0.5), 0, 1)


def _cast(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    if attributes["to"] not in _TYPES:
        raise ExportError(f"a Cast to type {attributes['to']} cannot be run")
    return inputs[0].to(_TYPES[attributes["to"]])


def _mean(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    axes = [int(a) for a in attributes["axes"]] if "axes" in attributes else inputs[1].tolist()
    if sorted(axes) not in ([2, 3], [-2, -1]):
        raise ExportError(f"a mean over the axes {axes} cannot be run, but for that over height and width")
    return inputs[0].mean((2, 3), keepdim=bool(attributes.get("keepdims", 1)))


def _squeeze(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    axes = [int(a) for a in attributes["axes"]] if "axes" in attributes else inputs[1].tolist()
    if sorted(axes) not in ([2, 3], [-2, -1]):
        raise ExportError(f"a Squeeze of the axes {axes} cannot be run, but for that of height and width")
    return inputs[0].flatten(1)


def _pad(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, pads, *value = inputs
    if attributes.get("mode", b"constant") != b"constant" or len(pads) != 8 or any(pads[[0, 1, 4, 5]]):
        raise ExportError("a Pad cannot be run, but for that of height and width by a constant")
    top, left, bottom, right = pads[[2, 3, 6, 7]].tolist()
    return F.pad(x, (left, right, top, bottom), value=float(value[0]) if value else 0.0)


def dequantized(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    """Return what codes stand for: scale * (code - zero), with one scale for all or one along an axis."""
    codes, scale, zero = [*inputs, torch.zeros(())][:3]
    axis = int(attributes.get("axis", 1))
    return (codes.float() - _along(zero.float(), codes, axis)) * _along(scale, codes, axis)


def _quantized(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    """The codes of numbers, kept as float32: whole numbers, half to the even, within the type of the zero."""
    x, scale, *given = inputs
    zero = given[0] if given else torch.zeros((), dtype=torch.uint8)
    bounds, axis = torch.iinfo(zero.dtype), int(attributes.get("axis", 1))
    codes = torch.round(x / _along(scale, x, axis)) + _along(zero.float(), x, axis)
    return torch.clamp(codes, bounds.min, bounds.max)


def _along(values: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    """One number for all of ``x``, or as many as it has along an axis, in a shape that spreads over it."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return values.reshape(shape)


OPERATIONS: dict[str, Operation] = {
    "Add": lambda inputs, attributes: inputs[0] + inputs[1],
    "Sub": lambda inputs, attributes: inputs[0] - inputs[1],
    "Mul": lambda inputs, attributes: inputs[0] * inputs[1],
    "Div": lambda inputs, attributes: inputs[0] / inputs[1],
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Gather": _gather,
    "Concat": lambda inputs, attributes: torch.cat(inputs, attributes["axis"]),
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Cast": _cast,
    "ReduceMean": _mean,
    "Squeeze": _squeeze,
    "Pad": _pad,
}
# What brings numbers to levels and back, in a file of int8.
OF_LEVELS: dict[str, Operation] = {"QuantizeLinear": _quantized, "DequantizeLinear": dequantized}
