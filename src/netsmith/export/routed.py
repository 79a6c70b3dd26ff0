"""Writing a network that routes each image along its own path as one ONNX file.

The file holds the controller, its threshold, and ``If`` nodes: a runtime computes what the image at hand
needs and nothing else. An ``If`` takes microseconds in ONNX Runtime, so paths that are known to be common are
written whole, each in one branch, which is optimised as a static network would be, behind a few ``If`` that
tell them apart; any other path takes an ``If`` an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from onnx import GraphProto, TensorProto, helper
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.branches import File, Scope
from netsmith.export.graph import UnknownOperationError
from netsmith.export.huffman import Asked, leaves, told_apart
from netsmith.export.onnx import INPUT, IR_VERSION, OPSET, OUTPUT, InputType

CHOICES = "choices"

Path = Sequence[Sequence[bool]]
"""Which operations of each edge are active."""


class RoutedParts(NamedTuple):
    """What a routed network is made of.

    ``controller`` gives (1, edges * operations) logits of what ``first`` makes of an image, such as its
    normalised pixels; an operation is active from a logit of 0 up. ``edges`` are the operations of each edge,
    whose outputs are added up. An edge that is ``skippable`` adds its input to them, which is all where none
    is active; at any other the last operation stands in.
    """

    first: nn.Module
    controller: nn.Module
    stem: nn.Module
    edges: Sequence[Sequence[nn.Module]]
    skippable: Sequence[bool]
    head: nn.Module

    @property
    def modules(self) -> list[nn.Module]:
        """Every module, once."""
        operations = [operation for edge in self.edges for operation in edge]
        return [self.first, self.controller, self.stem, *operations, self.head]


def write_routed(
    parts: RoutedParts,
    input_shape: tuple[int, int, int],
    *,
    paths: Sequence[Path] = (),
    input_type: InputType = "float32",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Write a routed network as it computes at evaluation, and return the file's bytes.

    Its one input ``images`` is (1, C, H, W) of ``input_type``, since a path is that of one image. Its outputs
    ``logits`` (1, classes) and ``choices``, the booleans (edges, operations) of what was active.
    ``paths`` are the common ones, the most common first; each adds its own weights to the file once more.
    Raises :class:`ExportError` where a part cannot be written directly, or the parts do not fit each other.
    """
    try:
        with _evaluating(parts.modules):
            _check(parts, input_shape, paths, input_type)
            graph = _network(parts, input_shape, paths, input_type)
    except UnknownOperationError as reason:
        raise ExportError(
            f"a routed network is written directly or not at all, and this one cannot be: {reason}. "
            "Use layers that netsmith.export.graph knows"
        ) from reason
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="netsmith"
    )
    helper.set_model_props(model, dict(metadata or {}))
    data: bytes = model.SerializeToString()
    return data


def _check(
    parts: RoutedParts, input_shape: tuple[int, int, int], paths: Sequence[Path], input_type: InputType
) -> None:
    """Raise :class:`ExportError` unless the parts take an image through, and the paths are theirs."""
    shape = (len(parts.edges), len(parts.edges[0]))
    try:
        with torch.no_grad():
            pixels = parts.first(torch.zeros(1, *input_shape, dtype=getattr(torch, input_type)))
            if (given := tuple(parts.controller(pixels).shape)) != (1, shape[0] * shape[1]):
                raise ExportError(f"a controller of {shape} operations gives as many logits; got {given}")
            x = parts.stem(pixels)
            for edge, skippable in zip(parts.edges, parts.skippable, strict=True):
                added = torch.stack([operation(x) for operation in edge]).sum(0)
                x = x + added if skippable else added
            parts.head(x)
    except (RuntimeError, ValueError) as error:  # what PyTorch raises where sizes differ
        raise ExportError(
            f"the parts of a routed network do not fit images of {input_shape}: {error}"
        ) from error
    for path in paths:
        if [len(flags) for flags in path] != [shape[1]] * shape[0] or not all(map(any, _needed(parts, path))):
            raise ExportError(
                f"a path is booleans {shape}, some true on every edge that must not be skipped; got {path}"
            )


def _needed(parts: RoutedParts, path: Path) -> list[Sequence[bool]]:
    return [flags for flags, skippable in zip(path, parts.skippable, strict=True) if not skippable]


@contextmanager
def _evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Hold modules in evaluation mode, and give each of their parts its own back."""
    before = {part: part.training for module in modules for part in module.modules()}
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def _network(
    parts: RoutedParts, input_shape: tuple[int, int, int], paths: Sequence[Path], input_type: InputType
) -> GraphProto:
    file = File()
    scope = Scope(file)
    pixels = scope.module(parts.first, INPUT)
    _choose(scope, parts, scope.module(parts.controller, pixels))
    if paths:
        asked = told_apart(len(paths))
        order = [number for number, _ in leaves(asked)]
        place = _place(scope, [paths[number] if number < len(paths) else None for number in order])

        def made(number: int) -> GraphProto:
            if number < len(paths):
                return _chain(file, parts, paths[number], pixels)
            branch = Scope(file)
            return branch.graph(_any_path(branch, parts, pixels))

        result = _branched(scope, asked, place, 0, made)
    else:
        result = _any_path(scope, parts, pixels)
    scope.nodes.append(helper.make_node("Identity", [result], [OUTPUT], name=OUTPUT))
    kind = TensorProto.UINT8 if input_type == "uint8" else TensorProto.FLOAT
    choices = [len(parts.edges), len(parts.edges[0])]
    outputs = [
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None),
        helper.make_tensor_value_info(CHOICES, TensorProto.BOOL, choices),
    ]
    images = helper.make_tensor_value_info(INPUT, kind, [1, *input_shape])
    return helper.make_graph(scope.nodes, "netsmith", [images], outputs, scope.constants)


def _choose(scope: Scope, parts: RoutedParts, logits: str) -> None:
    """Write ``CHOICES``: what has a logit of 0 or more, and what stands in where nothing of an edge has."""
    shape = len(parts.edges), len(parts.edges[0])
    (rows,) = scope.node("Reshape", [logits, scope.constant(np.array(shape))])
    zero = scope.constant(np.array(0, np.float32))
    (chosen,) = scope.node("GreaterOrEqual", [rows, zero])
    (most,) = scope.node("ReduceMax", [rows, scope.constant(np.array([1]))])
    (none,) = scope.node("Less", [most, zero])
    stands_in = np.zeros(shape, bool)
    stands_in[~np.array(parts.skippable), -1] = True
    (needed,) = scope.node("And", [none, scope.constant(stands_in)])
    scope.nodes.append(helper.make_node("Or", [chosen, needed], [CHOICES], name=CHOICES))


def _place(scope: Scope, paths: Sequence[Path | None]) -> str:
    """Return the place (1,) among ``paths`` of that which the choices are; of None where they are none.

    The score of a path is the number of choices that differ from it, negated, so that only the one that is
    meant reaches 0; that of None is between 0 and all others.
    """
    meant = [np.zeros(0) if path is None else np.array(path, np.float32).ravel() for path in paths]
    size = max(map(len, meant))
    weights = np.array([2 * one - 1 if len(one) else np.zeros(size) for one in meant], np.float32).T
    offsets = np.array([-one.sum() if len(one) else -0.5 for one in meant], np.float32)
    (numbers,) = scope.node("Cast", [CHOICES], to=TensorProto.FLOAT)
    (row,) = scope.node("Reshape", [numbers, scope.constant(np.array([1, -1]))])
    (scores,) = scope.node("Gemm", [row, scope.constant(weights), scope.constant(offsets)])
    return scope.node("ArgMax", [scores], axis=1, keepdims=0)[0]


def _branched(scope: Scope, asked: Asked, place: str, first: int, made: Callable[[int], GraphProto]) -> str:
    """Write the ``If`` that lead to the path at ``place``, the leftmost of ``asked`` being at ``first``."""
    assert not isinstance(asked, int)
    left, right = asked
    boundary = first + sum(1 for _ in leaves(left))

    def branch(side: Asked, begin: int) -> GraphProto:
        if isinstance(side, int):
            return made(side)
        inside = Scope(scope.file)
        return inside.graph(_branched(inside, side, place, begin, made))

    (is_left,) = scope.node("Less", [place, scope.constant(np.array([boundary]))])
    return scope.either(is_left, branch(left, first), branch(right, boundary))


def _reduced(scope: Scope, op: str, flags: str, axes: Sequence[int]) -> str:
    """Return booleans reduced over ``axes``, by way of numbers, of which alone this version has maxima."""
    (numbers,) = scope.node("Cast", [flags], to=TensorProto.FLOAT)
    reduced = scope.node(op, [numbers, scope.constant(np.array(axes))], keepdims=0)
    return scope.node("Cast", reduced, to=TensorProto.BOOL)[0]


def _apart(scope: Scope, flags: str, number: int) -> list[str]:
    """Return each of ``number`` booleans as a value of its own."""
    (row,) = scope.node("Reshape", [flags, scope.constant(np.array([-1]))])
    return scope.node("Split", [row], number, axis=0, num_outputs=number) if number > 1 else [row]


def _chain(file: File, parts: RoutedParts, path: Path, pixels: str) -> GraphProto:
    """Return the branch of one path: a static network."""
    scope = Scope(file)
    x = scope.module(parts.stem, pixels)
    for edge, skippable, flags in zip(parts.edges, parts.skippable, path, strict=True):
        given = [scope.module(operation, x) for operation, on in zip(edge, flags, strict=True) if on]
        x, *others = [*given, x] if skippable else given
        for other in others:
            (x,) = scope.node("Add", [x, other])
    return scope.graph(scope.module(parts.head, x))


def _any_path(scope: Scope, parts: RoutedParts, pixels: str) -> str:
    """Write the network with an ``If`` around each operation, and around each edge that can be skipped."""
    edges, operations = len(parts.edges), len(parts.edges[0])
    each = _apart(scope, CHOICES, edges * operations)
    active = [each[i * operations : (i + 1) * operations] for i in range(edges)]
    some = _apart(scope, _reduced(scope, "ReduceMax", CHOICES, [1]), edges)
    x = scope.module(parts.stem, pixels)
    for edge, skippable, flags, chosen in zip(parts.edges, parts.skippable, active, some, strict=True):
        if skippable:
            inside = Scope(scope.file)
            x = scope.either(
                chosen, inside.graph(_sum(inside, edge, flags, x, skippable)), Scope(scope.file).graph(x)
            )
        else:
            x = _sum(scope, edge, flags, x, skippable)
    return scope.module(parts.head, x)


def _sum(scope: Scope, operations: Sequence[nn.Module], active: Sequence[str], x: str, shortcut: bool) -> str:
    """Write the sum of the active operations: each adds to what those before it gave, or passes that on.

    With a ``shortcut`` the first adds to ``x`` itself.
    """
    total = x if shortcut else scope.constant(np.zeros((1, 1, 1, 1), np.float32))
    for number, (operation, flag) in enumerate(zip(operations, active, strict=True)):
        then = Scope(scope.file)
        given = then.module(operation, x)
        given = then.node("Add", [total, given])[0] if number or shortcut else given
        total = scope.either(flag, then.graph(given), Scope(scope.file).graph(total))
    return total
