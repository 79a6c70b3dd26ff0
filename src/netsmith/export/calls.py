"""How calls of functions and methods in a traced forward are written in ONNX, each one entry of a table."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from netsmith.export.graph import (
    MODULES,
    GraphWriter,
    UnknownOperationError,
    flatten_from,
    padded,
    relu6,
    silu,
)

WriteCall = Callable[[GraphWriter, str, tuple[Any, ...], Mapping[str, Any]], str]
# What stands for the shape of a value and for how many images it is of, where a forward asks for them.
_SHAPE, _BATCH = "shape of ", "images of "
_END = 2**63 - 1  # behind the last channel, however many there are


def _binary(op: str) -> WriteCall:
    """Write an operation of two tensors, or of a tensor and a number."""

    def write(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        if kwargs or len(args) != 2:
            raise UnknownOperationError(f"{op} of {args} with {dict(kwargs)}")
        numbers = {str(v): np.array(v, np.float32) for v in args if not isinstance(v, str)}
        operands = [v if isinstance(v, str) else graph.constant(f"number.{v}", numbers[str(v)]) for v in args]
        return graph.node(op, operands, name)

    return write


def _unary(op: str) -> WriteCall:
    return lambda graph, name, args, kwargs: graph.node(op, [args[0]], name)


def _relu6_call(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    return relu6(graph, name, args[0])


def _cat(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    return graph.node("Concat", list(args[0]), name, {"axis": int(axis)})


def _mean(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write the mean over height and width; other means are left to the general exporter."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    if dims is None or isinstance(dims, int) or sorted(dims) not in ([2, 3], [-2, -1]):
        raise UnknownOperationError(f"mean over {dims}")
    if keep:
        return graph.node("GlobalAveragePool", [args[0]], name)
    pooled = graph.node("GlobalAveragePool", [args[0]], f"{name}.pooled")
    return graph.node("Flatten", [pooled], name, {"axis": 1})


def _flatten_call(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    bounds = [*args[1:], *(kwargs[k] for k in ("start_dim", "end_dim") if k in kwargs)]
    return flatten_from(graph, name, args[0], *bounds)


def _layout(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write nothing for a change of memory layout, which ONNX does not have."""
    if len(args) > 1 or set(kwargs) - {"memory_format"}:
        raise UnknownOperationError(f"conversion to {args[1:]} {dict(kwargs)}")
    return str(args[0])


def _like(build: Callable[..., nn.Module]) -> WriteCall:
    """Write a function as the layer that ``build`` makes of its arguments but for the first."""

    def write(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        layer = build(*args[1:], **{k: v for k, v in kwargs.items() if k != "inplace"})
        return MODULES[type(layer)](graph, name, layer, args[0])

    return write


def _max_pool(
    kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:  # fmt: skip
    """The layer, which takes its arguments in another order than the function."""
    return nn.MaxPool2d(kernel, stride, padding, dilation, return_indices, ceil_mode)


def _dropout(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write nothing for a dropout that rests."""
    if len(args) > 2 or kwargs.get("training", True):
        raise UnknownOperationError("a dropout that is never off")
    return str(args[0])


def _pad(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    if len(args) != 2 or len(args[1]) != 4 or kwargs.get("mode", "constant") != "constant":
        raise UnknownOperationError(f"padding by {args[1:]} with {dict(kwargs)}")
    return padded(graph, name, args[0], args[1], float(kwargs.get("value") or 0.0))


def _clamp(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    if kwargs or len(args) != 3 or not all(isinstance(bound, int | float) for bound in args[1:]):
        raise UnknownOperationError(f"clamping to {args[1:]} with {dict(kwargs)}")
    bounds = [graph.constant(f"clip.{float(v):g}", np.array(v, np.float32)) for v in args[1:]]
    return graph.node("Clip", [args[0], *bounds], name)


def _size(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write nothing for a question of how many images there are, which a flattening asks."""
    if kwargs or args[1:] not in ((), (0,)):
        raise UnknownOperationError(f"a size of dimension {args[1:]}")
    return f"{_BATCH if len(args) > 1 else _SHAPE}{args[0]}"


def _attribute(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    if args[1:] != ("shape",):
        raise UnknownOperationError(f"the attribute {args[1:]}")
    return f"{_SHAPE}{args[0]}"


def _item(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write a part of a split, or a run of channels; nothing for how many images there are."""
    of, which = args
    if of in graph.parts:
        x, sizes = graph.parts[of]
        return _channels(graph, name, x, *_bounds(sizes, which))
    if str(of).startswith(_SHAPE) and which == 0:
        return _BATCH + str(of).removeprefix(_SHAPE)
    if isinstance(which, tuple) and len(which) > 1 and all(i == slice(None) for i in which[:1] + which[2:]):
        return _channels(graph, name, of, *_run_of(which[1]))
    raise UnknownOperationError(f"the item {which} of a value")


def _split(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write nothing for a split of channels: each part is written where it is taken."""
    sizes, dim = _sizes(args, kwargs), args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if dim != 1 or not all(isinstance(size, int) for size in (sizes if isinstance(sizes, list) else [sizes])):
        raise UnknownOperationError(f"splitting dimension {dim} by {sizes}")
    graph.parts[name] = (args[0], sizes)
    return name


def _sizes(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The channels of each part of a split: a list, or one number for all but the last, which may be less."""
    given = {**dict(zip(("x", "split_size"), args, strict=False)), **kwargs}
    sizes = given.get("split_size_or_sections", given.get("split_size"))
    return list(sizes) if isinstance(sizes, tuple | list) else sizes


def parts_of(node: fx.Node) -> int | None:
    """Return how many parts a split has whose sizes are listed; None of any other operation."""
    sizes = _sizes(node.args, node.kwargs) if CALLS.get(node.target) is _split else None
    return len(sizes) if isinstance(sizes, list) else None


def _bounds(sizes: int | list[int], number: Any) -> tuple[int, int]:
    """The first channel of a part, and the one behind its last."""
    if isinstance(sizes, list) and isinstance(number, int) and -len(sizes) <= number < len(sizes):
        start = sum(sizes[: number % len(sizes)])
        return start, start + sizes[number]
    if isinstance(sizes, int) and isinstance(number, int) and number >= 0:
        return number * sizes, (number + 1) * sizes
    raise UnknownOperationError(f"the part {number} of a split by {sizes}")


def _run_of(which: Any) -> tuple[int, int]:
    """The bounds of a slice whose steps are 1."""
    if isinstance(which, slice) and which.step in (None, 1):
        start, stop = which.start or 0, _END if which.stop is None else which.stop
        if isinstance(start, int) and isinstance(stop, int):
            return start, stop
    raise UnknownOperationError(f"the channels {which} of a value")


def _channels(graph: GraphWriter, name: str, x: str, start: int, stop: int) -> str:
    """Write a choice of channels: a Slice. ONNX Runtime joins those of one value to a Split itself."""
    bounds = [graph.constant(f"channel.{at}", np.array([at], np.int64)) for at in (start, stop, 1)]
    return graph.node("Slice", [x, *bounds], name)


def _view(graph: GraphWriter, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write a reshaping to one row an image."""
    shape = args[1] if len(args) == 2 and isinstance(args[1], tuple | list) else args[1:]
    if kwargs or len(shape) != 2 or shape[1] != -1 or not str(shape[0]).startswith(_BATCH):
        raise UnknownOperationError(f"reshaping to {shape}")
    return flatten_from(graph, name, args[0], 1)


CALLS: dict[Callable[..., Any] | str, WriteCall] = {
    operator.add: _binary("Add"),
    torch.add: _binary("Add"),
    operator.iadd: _binary("Add"),
    operator.mul: _binary("Mul"),
    torch.mul: _binary("Mul"),
    operator.sub: _binary("Sub"),
    torch.sub: _binary("Sub"),
    F.relu: _unary("Relu"),
    torch.relu: _unary("Relu"),
    "relu": _unary("Relu"),
    torch.sigmoid: _unary("Sigmoid"),
    "sigmoid": _unary("Sigmoid"),
    F.relu6: _relu6_call,
    operator.truediv: _binary("Div"),
    F.silu: lambda graph, name, args, kwargs: silu(graph, name, args[0]),
    F.hardswish: _like(nn.Hardswish),
    F.hardsigmoid: _like(nn.Hardsigmoid),
    F.leaky_relu: _like(nn.LeakyReLU),
    F.elu: _like(nn.ELU),
    torch.tanh: _unary("Tanh"),
    F.max_pool2d: _like(_max_pool),
    F.avg_pool2d: _like(nn.AvgPool2d),
    F.adaptive_avg_pool2d: _like(nn.AdaptiveAvgPool2d),
    F.dropout: _dropout,
    F.pad: _pad,
    torch.clamp: _clamp,
    "clamp": _clamp,
    "size": _size,
    getattr: _attribute,
    operator.getitem: _item,
    torch.split: _split,
    "split": _split,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    torch.cat: _cat,
    torch.mean: _mean,
    "mean": _mean,
    torch.flatten: _flatten_call,
    "flatten": _flatten_call,
    "contiguous": _layout,
    "to": _layout,
}


_OF_SIZES = (operator.getitem, "view", "reshape", torch.reshape)


def write_call(graph: GraphWriter, node: fx.Node, names: Mapping[fx.Node, str]) -> str:
    """Write a function or method call of a traced graph. Raises :class:`UnknownOperationError`."""
    key = node.target
    if key not in CALLS:
        raise UnknownOperationError(f"call of {key}")
    args = fx.node.map_arg(node.args, lambda n: names[n])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: names[n])
    if key not in _OF_SIZES and any(str(arg).startswith((_SHAPE, _BATCH)) for arg in args):
        raise UnknownOperationError(f"call of {key} with a size")
    if key is not operator.getitem and any(isinstance(arg, str) and arg in graph.parts for arg in args):
        raise UnknownOperationError(f"call of {key} with all parts of a split")
    return CALLS[key](graph, node.name, args, kwargs)
