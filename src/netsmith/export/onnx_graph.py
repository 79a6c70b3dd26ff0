"""Reading an ONNX graph to write it in another format: its constants, shapes and readers, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from netsmith.errors import ExportError

Array = np.ndarray[Any, np.dtype[Any]]


class OnnxGraph:
    """A graph of inferred shapes, batch first, that a writer of another format reads.

    ``places`` says where the writer put each value that it has written.
    """

    places: dict[str, Any]

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.source = graph
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.shapes: dict[str, tuple[int, ...]] = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> NodeProto | None:
        """Return the node that alone reads a value, if there is one and the value is no output."""
        readers = self._readers.get(name, [])
        is_output = any(name == output.name for output in self.source.output)
        return readers[0] if len(readers) == 1 and not is_output else None

    def reads_reals(self, node: NodeProto) -> bool:
        """Whether a node computes with a constant that is not quantised."""
        known = (self.constants[name] for name in node.input if name in self.constants)
        return any(values.dtype == np.float32 for values in known)


def channels_of(graph: OnnxGraph, node: NodeProto, kind: str) -> range:
    """Return the channels that a Slice takes, in a file that is called ``kind``.

    Raises :class:`ExportError` where it takes anything else.
    """
    known = [graph.constants[name].tolist() for name in node.input[1:] if name in graph.constants]
    starts, stops, axes, *steps = known if len(known) + 1 == len(node.input) >= 4 else [[], [], []]
    if axes != [1] or steps not in ([], [[1]]):
        raise ExportError(f"a Slice that is not of channels cannot be written as {kind}")
    return range(graph.shapes[node.input[0]][1])[starts[0] : stops[0]]


Graph = TypeVar("Graph", bound=OnnxGraph)


def translate(graph: Graph, operations: Mapping[str, Callable[[Graph, NodeProto], None]], kind: str) -> None:
    """Write every node by the table of ``operations``, in a file that is called ``kind``.

    Raises :class:`ExportError` on an operation that is not in it.
    """
    for node in graph.source.node:
        if node.output[0] in graph.places:  # it was taken along by the node before it
            continue
        if node.op_type not in operations:
            raise ExportError(
                f"operation '{node.op_type}' cannot be written as {kind}; known: {', '.join(operations)}"
            )
        operations[node.op_type](graph, node)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
