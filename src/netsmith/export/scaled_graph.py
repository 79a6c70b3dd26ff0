"""What the writers of formats have in common whose integers have scales and whose values have numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from netsmith.export.onnx_graph import OnnxGraph

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scale:
    """How integers stand for reals: ``scale * (q - zero)``, for each index along ``axis``."""

    scale: Array
    zero: Array
    axis: int = 0


def signed(scale: Array, zero: Array) -> Scale:
    """Turn the scale of unsigned bytes into that of signed ones, which stand for the same reals."""
    return Scale(np.atleast_1d(scale), np.atleast_1d(zero).astype(np.int64) - 128)


class ScaledGraph(OnnxGraph, ABC):
    """A graph whose ``places`` are the numbers that a file in the making gives its values."""

    places: dict[str, int]
    unclipped: Any = None
    """What :meth:`result` tells of an output that nothing clips."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self.places = {}
        self.scales: dict[str, Scale] = {}  # of constants that a DequantizeLinear reads

    @abstractmethod
    def output(self, name: str, scale: Scale | None) -> int:
        """Make the value of an output, in float32 or in int8 of a scale, and return its number."""

    @abstractmethod
    def quantized(self, place: int) -> bool:
        """Whether a value holds signed integers that stand for reals."""

    @abstractmethod
    def real(self, name: str) -> int:
        """Return the number of a value in float32."""

    @abstractmethod
    def rescaled(self, place: int, like: int) -> int:
        """Return the number of integers with the scale of others."""

    @abstractmethod
    def constant_operand(self, name: str, values: Array, scale: Scale | None, integers: bool) -> int:
        """Return the number of a constant, channels last, that is added to or multiplied with."""

    @abstractmethod
    def clip_of(self, node: NodeProto) -> Any:
        """Return how the operation before ``node`` may clip its output in its place, or None."""

    def result(self, node: NodeProto, *, clips: bool = True) -> tuple[int, Any, bool]:
        """Make the value of a node's output, with what follows that belongs to it.

        Return its number, what clips it, and whether it is quantised: where a QuantizeLinear alone reads it,
        and all that the node computes with is.
        """
        name, clip, scale = node.output[0], self.unclipped, None
        follower = self.only_reader(name)
        taken = self.clip_of(follower) if clips and follower is not None else None
        if follower is not None and taken is not None:
            name, clip = follower.output[0], taken
            follower = self.only_reader(name)
        integers = all(self.quantized(self.places[i]) for i in node.input if i in self.places)
        if integers and not self.reads_reals(node) and follower is not None:
            scale = self.scale_of(follower) if follower.op_type == "QuantizeLinear" else None
        place = self.output(name, scale)
        if follower is not None and scale is not None:
            self.places[follower.output[0]] = place
        self.places[name] = self.places[node.output[0]] = place
        return place, clip, scale is not None

    def operand(self, name: str, integers: bool) -> int:
        """Return the number of an input: an activation, or a constant that is added to or multiplied with."""
        if name in self.places:
            return self.places[name] if integers else self.real(name)
        values = self.constants[name]
        if values.ndim >= 3:  # ([N,] C, H, W)
            values = np.moveaxis(values, -3, -1)
        return self.constant_operand(name, values, self.scales.get(name), integers)

    def kept(self, node: NodeProto) -> tuple[int, int]:
        """Return the numbers of the output and the input of a node that changes no number's scale.

        Both are integers of the output's scale, or both reals.
        """
        place, _, integers = self.result(node, clips=False)
        x = self.operand(node.input[0], integers)
        return place, self.rescaled(x, place) if integers else x

    def scale_of(self, node: NodeProto) -> Scale:
        """Return the scale of a QuantizeLinear's output, of signed bytes."""
        scale, zero = (self.constants[name] for name in node.input[1:3])
        return signed(scale, zero)


def dequantize(graph: ScaledGraph, node: NodeProto) -> None:
    """Let the readers of a DequantizeLinear see the integers and their scale."""
    name, output = node.input[0], node.output[0]
    if name in graph.places:
        graph.places[output] = graph.places[name]
        return
    scale, zero = (graph.constants[i] for i in node.input[1:3])
    graph.constants[output] = graph.constants[name]
    graph.scales[output] = Scale(scale, zero)
