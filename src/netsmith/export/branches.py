"""ONNX graphs with branches: what the graph and the branches of its ``If`` nodes are written by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from netsmith.export.graph import Array, GraphWriter
from netsmith.export.onnx import INPUT, write_nodes


class _Written(NamedTuple):
    """How a module is written on the value ``INPUT``."""

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    output: str


class File:
    """What the graph and all its branches share: the count of names, and how each module is written."""

    def __init__(self) -> None:
        self.names = count()
        self._written: dict[nn.Module, _Written] = {}

    def written(self, module: nn.Module) -> _Written:
        """Return how a module is written; each is traced and folded once."""
        if module not in self._written:
            writer = GraphWriter()
            output = write_nodes(writer, module)
            self._written[module] = _Written(writer.nodes, list(writer.constants.values()), output)
        return self._written[module]


class Scope:
    """The nodes and constants of the graph, or of one branch; their names are unique in the file.

    A branch holds its own weights: what it reads from around it is no constant to ONNX Runtime, which then
    neither packs nor folds it, and a convolution takes several times as long.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, values: Array) -> str:
        """Add a constant and return its name."""
        name = f"constant_{next(self.file.names)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        name = f"{op}_{next(self.file.names)}"
        names = [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names

    def module(self, module: nn.Module, x: str) -> str:
        """Write ``module`` on value ``x`` and return its output's name."""
        written, prefix = self.file.written(module), f"part_{next(self.file.names)}."

        def place(name: str) -> str:
            return x if name == INPUT else prefix + name

        for constant in written.constants:
            copy = TensorProto()
            copy.CopyFrom(constant)
            copy.name = place(constant.name)
            self.constants.append(copy)
        for node in written.nodes:
            moved = NodeProto()
            moved.CopyFrom(node)
            moved.name = prefix + node.name
            moved.input[:] = map(place, node.input)
            moved.output[:] = map(place, node.output)
            self.nodes.append(moved)
        return place(written.output)

    def either(self, condition: str, then: GraphProto, otherwise: GraphProto) -> str:
        """Add an ``If`` between two branches and return what it gives."""
        return self.node("If", [condition], then_branch=then, else_branch=otherwise)[0]

    def graph(self, output: str) -> GraphProto:
        """Return the nodes as a branch, which reads what the graph around it holds."""
        if not any(output in node.output for node in self.nodes):  # a branch gives only what it made
            output = self.node("Identity", [output])[0]
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(self.nodes, f"branch_{next(self.file.names)}", [], [value], self.constants)
