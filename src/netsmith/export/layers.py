"""ONNX nodes as PyTorch's layers: those with weights, which can be trained and cut, and those without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from netsmith.errors import ExportError

Constants = Sequence[torch.Tensor | None]
"""What a node reads beside its first input, in order: tensors; None of what is no constant or not given."""
Build = Callable[[Mapping[str, Any], Constants], nn.Module | None]

_PADDED = ("NOTSET", "VALID")


class Channels(nn.Module):
    """The channels from ``start`` to before ``stop``: (N, C, ...) -> (N, stop - start, ...)."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.start : self.stop]


def layer_of(op: str, attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    """Return the layer that a node is, in evaluation mode; None where it is none that is known here.

    Raises :class:`ExportError` on a node that is of a known kind and cannot be a layer of PyTorch.
    """
    build = _LAYERS.get(op)
    layer = None if build is None else build(attributes, constants)
    return None if layer is None else layer.eval()


def pads_of(attributes: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return what surrounds an image: top, left, bottom, right."""
    auto = bytes(attributes.get("auto_pad", b"NOTSET")).decode()
    if auto not in _PADDED:
        raise ExportError(f"auto_pad {auto} is not understood; export the model with explicit pads")
    top, left, bottom, right = map(int, attributes.get("pads", (0, 0, 0, 0)))
    return top, left, bottom, right


def _convolution(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    weight, bias = [*constants, None, None][:2]
    if weight is None or (bias is None and len(constants) > 1):
        return None
    if weight.ndim != 4:
        raise ExportError(f"a convolution of images has a weight of 4 dimensions, not of {weight.ndim}")
    top, left, bottom, right = pads_of(attributes)
    even = (top, left) == (bottom, right)
    groups = int(attributes.get("group", 1))
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        tuple(attributes.get("strides", (1, 1))),
        (top, left) if even else 0,
        tuple(attributes.get("dilations", (1, 1))),
        groups,
        bias=bias is not None,
        device="meta",
    )
    _take(layer, weight=weight, bias=bias)
    return layer if even else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)


def _linear(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    """A Gemm whose weight is a constant; ``transB`` says that it is stored as PyTorch stores it."""
    weight, bias = [*constants, None, None][:2]
    if weight is None or (bias is None and len(constants) > 1):
        return None
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if any(attributes.get(name, value) != value for name, value in plain.items()):
        raise ExportError(f"a Gemm of {dict(attributes)} is not understood, but for that of a linear layer")
    return linear_of(weight if attributes.get("transB", 0) else weight.t(), bias)


def _product(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    (weight,) = constants
    return None if weight is None or weight.ndim != 2 else linear_of(weight.t(), None)


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return the linear layer of a weight (out, in) and a bias of as many numbers as it has outputs."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    _take(layer, weight=weight, bias=None if bias is None else bias.flatten())
    return layer


def _batch_norm(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    weight, bias, mean, variance = constants
    if weight is None or bias is None or mean is None or variance is None:
        return None
    momentum = 1 - float(attributes.get("momentum", 0.9))
    layer = nn.BatchNorm2d(len(weight), float(attributes.get("epsilon", 1e-5)), momentum, device="meta")
    layer.num_batches_tracked = torch.tensor(0)
    _take(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)
    return layer


def _take(layer: nn.Module, **tensors: torch.Tensor | None) -> None:
    """Give a layer its numbers; their shapes must be those that it has."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        there = getattr(layer, name)
        if there.shape != tensor.shape:
            kind, needed = type(layer).__name__, tuple(there.shape)
            raise ExportError(f"the {name} of a {kind} is {tuple(tensor.shape)}, and should be {needed}")
        own = tensor.detach().float().clone()
        own = own.contiguous(memory_format=torch.channels_last) if own.ndim == 4 else own.contiguous()
        setattr(layer, name, nn.Parameter(own) if isinstance(there, nn.Parameter) else own)


def _max_pool(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    kernel, (top, left, bottom, right) = tuple(attributes["kernel_shape"]), pads_of(attributes)
    inside = (top, left) == (bottom, right) and 2 * top <= kernel[0] and 2 * left <= kernel[1]
    layer = nn.MaxPool2d(
        kernel,
        tuple(attributes.get("strides", (1, 1))),
        (top, left) if inside else 0,
        tuple(attributes.get("dilations", (1, 1))),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )
    return layer if inside else nn.Sequential(nn.ConstantPad2d((left, right, top, bottom), -torch.inf), layer)


def _average_pool(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    top, left, bottom, right = pads_of(attributes)
    if (top, left) != (bottom, right):
        raise ExportError("an average over padding that is not even is not understood")
    return nn.AvgPool2d(
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        (top, left),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=bool(attributes.get("count_include_pad", 0)),
    )


def _clip(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    bounds = [None if c is None else float(c) for c in (*constants, None, None)[:2]]
    return nn.ReLU6() if bounds == [0.0, 6.0] else None


def _hard_sigmoid(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    own = abs(attributes.get("alpha", 0.2) - 1 / 6) < 1e-6 and attributes.get("beta", 0.5) == 0.5
    return nn.Hardsigmoid() if own else None


def _slice(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    known = [c.tolist() for c in constants if c is not None]
    if len(known) < len(constants) or len(known) < 3:
        return None
    starts, stops, axes, *steps = known
    if axes != [1] or steps not in ([], [[1]]):
        raise ExportError(f"a Slice of the dimensions {axes} in steps of {steps} is not one of channels")
    return Channels(starts[0], stops[0])


def _flatten(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    return nn.Flatten() if attributes.get("axis", 1) == 1 else None


def _reshape(attributes: Mapping[str, Any], constants: Constants) -> nn.Module | None:
    """A reshaping to one row an image, which is a flattening whatever the count of channels is."""
    (shape,) = constants
    if shape is None or shape.numel() != 2 or int(shape[0]) not in (0, 1, -1):
        raise ExportError("a Reshape is understood only where it makes one row of each image")
    return nn.Flatten()


_LAYERS: dict[str, Build] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "MatMul": _product,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda attributes, constants: nn.AdaptiveAvgPool2d(1),
    "Relu": lambda attributes, constants: nn.ReLU(),
    "Clip": _clip,
    "Sigmoid": lambda attributes, constants: nn.Sigmoid(),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda attributes, constants: nn.Hardswish(),
    "LeakyRelu": lambda attributes, constants: nn.LeakyReLU(attributes.get("alpha", 0.01)),
    "Elu": lambda attributes, constants: nn.ELU(attributes.get("alpha", 1.0)),
    "Tanh": lambda attributes, constants: nn.Tanh(),
    "Slice": _slice,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dropout": lambda attributes, constants: nn.Identity(),
    "Identity": lambda attributes, constants: nn.Identity(),
}  # fmt: skip
KNOWN = tuple(_LAYERS)
