"""Reading an ONNX file as a PyTorch module: what PyTorch runs on its devices, and what can be trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.inputs import input_of
from netsmith.export.layers import KNOWN, layer_of, linear_of
from netsmith.export.norms import Unfolding, convolution_of
from netsmith.export.onnx_graph import attributes_of
from netsmith.export.operations import OF_LEVELS, OPERATIONS, Operation, dequantized
from netsmith.export.sparse import compressed

Step = tuple[nn.Module | None, Callable[[list[torch.Tensor]], torch.Tensor] | None, list[str], str]
"""A layer of one input, or else an operation of several; the names of what it reads, and of what it gives."""
_MOST_NODES = 20_000
_OF_SIZES = ("Gather", "Unsqueeze", "Concat", "Slice", "Cast")


class OnnxModule(nn.Module):
    """Computes what an ONNX file does, in float32, of PyTorch's own layers wherever there is one.

    It knows the operations that :mod:`netsmith.export.graph` writes and those of ordinary convolutional
    networks. Layers are called after their weights or nodes, and hold weights with channels last; with
    ``sparse`` those that are zero by half or more as compressed rows (:mod:`netsmith.export.sparse`). A
    softmax at the end is left out: the module gives logits. Takes (N, C, H, W) of the file's type. Raises
    :class:`ExportError` on a file that is not ONNX, whose nodes are not in order, or with an operation that
    is not known here. Files of int8 are read with ``quantized`` alone: the module rounds where the file does,
    which is slower than float32 and passes no gradients on.
    """

    def __init__(self, model: bytes, *, sparse: bool = False, quantized: bool = False) -> None:
        super().__init__()
        self.takes = input_of(model)
        """The shape (C, H, W) of the images that the file takes, and the type of their pixels."""
        graph = onnx.load_model_from_string(model).graph
        if len(graph.node) > _MOST_NODES:
            raise ExportError(f"the file has {len(graph.node)} nodes; at most {_MOST_NODES} are read")
        constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
        (self._input,) = (value.name for value in graph.input if value.name not in constants)
        self._output = _logits(graph)
        self._places: dict[str, str] = {}
        self._steps: list[Step] = []
        operations = {**OPERATIONS, **(OF_LEVELS if quantized else {})}
        _Reader(self, graph, constants, self._input, self._output, operations).read()
        if sparse:
            self._steps = [self._sparse(step) for step in self._steps]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the file's output for x (N, C, H, W)."""
        values = {name: getattr(self, place) for name, place in self._places.items()}
        values[self._input] = x
        for layer, operation, inputs, output in self._steps:
            if layer is not None:
                values[output] = layer(values[inputs[0]])
            elif operation is not None:
                values[output] = operation([values[name] for name in inputs])
        result: torch.Tensor = values[self._output]
        return result

    def _sparse(self, step: Step) -> Step:
        """A step with its layer's weights as compressed rows, where that is of use."""
        layer, operation, inputs, output = step
        if layer is None:
            return step
        name = next(name for name, child in self.named_children() if child is layer)
        made = compressed(layer)
        self.add_module(name, made)
        return made, operation, inputs, output

    def unfold(self, images: Iterable[torch.Tensor]) -> None:
        """Put a batch norm behind each convolution that has none, with which all computes as before.

        Exporters fold norms into weights, and without them what is left of a network neither trains well nor
        can have its statistics estimated anew. Each norm takes off what its channels are on average over
        ``images``, batches (N, C, H, W) as the file takes them, and gives it back. What is pooled to one
        place, such as a gate's, gets none.
        """
        read = {
            name
            for layer, _, inputs, _ in self._steps
            if isinstance(layer, nn.BatchNorm2d)
            for name in inputs
        }
        moments = {
            output: Unfolding(convolution_of(layer))
            for layer, _, _, output in self._steps
            if layer is not None and isinstance(convolution_of(layer), nn.Conv2d) and output not in read
        }
        with torch.no_grad():
            for batch in images:
                self(batch)
        steps: list[Step] = []
        names = {layer: name for name, layer in self.named_children()}
        for layer, operation, inputs, output in self._steps:
            norm = moments[output].norm() if output in moments else None
            if layer is None or norm is None:
                steps.append((layer, operation, inputs, output))
                continue
            self.add_module(f"{names[layer]}_norm", norm)
            steps += [
                (layer, None, inputs, f"{output} before its norm"),
                (norm, None, [f"{output} before its norm"], output),
            ]
        self._steps = steps


class _Reader:
    """Makes the steps of a module from the nodes of a graph; what it knows while it does."""

    def __init__(
        self,
        module: OnnxModule,
        graph: GraphProto,
        constants: dict[str, torch.Tensor],
        image: str,
        output: str,
        operations: Mapping[str, Operation],
    ) -> None:
        self.module, self.constants, self.output = module, constants, output
        self.operations = operations
        self.nodes = _needed(graph, output)
        self.sizes = _sizes(self.nodes)
        self.values = {image}
        self.producers = {name: node for node in self.nodes for name in node.output}
        self.readers = Counter([output, *(name for node in self.nodes for name in node.input)])

    def read(self) -> None:
        """Add all steps, in their order."""
        for node in self.nodes:
            given = [name for name in node.output if name]
            if self.sizes.issuperset(given):
                continue  # of what is computed from sizes only the reshaping that it is for is looked at
            lacking = sorted({*filter(None, node.input)} - self.values - {*self.constants} - self.sizes)
            if lacking or len(given) != 1:
                raise ExportError(f"the {_called(node)} reads {lacking}, which nothing before gives")
            try:
                self._add(node)
            except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
                raise ExportError(f"the {_called(node)} cannot be read: {error!r:.200}") from None
            self.values.update(given)
        if self.output not in self.values:
            raise ExportError(f"nothing gives the output '{self.output}'")

    def _add(self, node: NodeProto) -> None:
        """Add a node as a layer, as the bias of the layer before, as an operation or a constant."""
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _tensor(attributes_of(node)["value"])
            return
        if node.op_type in ("Identity", "Unsqueeze") and node.input[0] in self.constants:
            known = self.constants[node.input[0]]  # a weight that two layers have; a size that becomes a list
            self.constants[node.output[0]] = known if node.op_type == "Identity" else known.flatten()
            return
        if "DequantizeLinear" in self.operations and self._weighs(node):
            return
        if self._biases(node):
            return
        constants = [self.constants.get(name) for name in node.input[1:]]
        if node.op_type == "Reshape" and node.input[1] in self.sizes:
            constants = [self._shape(node.input[1])]
        first = node.input[0]
        layer = layer_of(node.op_type, attributes_of(node), constants) if first in self.values else None
        if layer is None:
            self._operate(node)
            return
        self.module.add_module(self._name_of(node), layer)
        self.module._steps.append((layer, None, [first], node.output[0]))

    def _operate(self, node: NodeProto) -> None:
        if node.op_type not in self.operations or self.sizes.intersection(node.input):
            known = ", ".join(sorted({*KNOWN, *self.operations}))
            raise ExportError(
                f"operation '{node.op_type}' of '{node.name}' cannot be run by PyTorch; known: {known}"
            )
        operation = partial(_run, self.operations[node.op_type], attributes_of(node))
        places = self.module._places
        for name in node.input:
            if name in self.constants and name not in places:
                places[name] = f"constant{len(places)}"
                self.module.register_buffer(places[name], self.constants[name])
        self.module._steps.append((None, operation, list(filter(None, node.input)), node.output[0]))

    def _weighs(self, node: NodeProto) -> bool:
        """Whether a node only says what a constant's codes stand for, which then is the constant."""
        codes = [self.constants.get(name) for name in node.input]
        known = [tensor for tensor in codes if tensor is not None]
        if node.op_type != "DequantizeLinear" or len(known) < len(codes):
            return False
        self.constants[node.output[0]] = dequantized(known, attributes_of(node))
        return True

    def _biases(self, node: NodeProto) -> bool:
        """Whether a node only adds the bias of the product before it, which then has it."""
        if node.op_type != "Add" or not self.module._steps:
            return False
        layer, _, inputs, output = self.module._steps[-1]
        bias = next((self.constants[name] for name in node.input if name in self.constants), None)
        if not isinstance(layer, nn.Linear) or "bias" in dict(layer.named_parameters()) or bias is None:
            return False
        if output not in node.input or self.readers[output] > 1 or bias.shape != layer.weight.shape[:1]:
            return False
        whole = linear_of(layer.weight, bias)
        self.module._steps[-1] = (whole, None, inputs, node.output[0])
        self.module.add_module(list(self.module._modules)[-1], whole)
        return True

    def _shape(self, name: str) -> torch.Tensor | None:
        """The shape (N, -1) where it is put together of what a batch has and a constant -1."""
        node = self.producers[name]
        last = self.constants.get(node.input[-1]) if node.op_type == "Concat" else None
        whole = len(node.input) == 2 and last is not None and last.tolist() == [-1]
        return torch.tensor([0, -1]) if whole else None

    def _name_of(self, node: NodeProto) -> str:
        """A name for a node's layer that no other has, without the dots that a path has."""
        weight = node.input[1] if len(node.input) > 1 else ""
        own = weight.endswith(".weight") and not weight.startswith("onnx::")
        text = weight.removesuffix(".weight") if own else node.name or node.output[0]
        name = re.sub(r"\W+", "_", text).strip("_")[:100] or node.op_type
        while hasattr(self.module, name):
            name += "_"
        return name


def _needed(graph: GraphProto, output: str) -> list[NodeProto]:
    """The nodes that an output follows from, in their order."""
    wanted, found = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]


def _sizes(nodes: Sequence[NodeProto]) -> set[str]:
    """What is computed from shapes: the outputs of Shape nodes, and of what brings them into a form."""
    found: set[str] = set()
    for node in nodes:
        if node.op_type == "Shape" or (node.op_type in _OF_SIZES and found.intersection(node.input)):
            found.update(node.output)
    return found


def _logits(graph: GraphProto) -> str:
    """The name of the output, or of what a softmax at the end reads."""
    name: str = graph.output[0].name
    last = next((node for node in graph.node if name in node.output), None)
    ends = last is not None and last.op_type in ("Softmax", "LogSoftmax")
    return str(last.input[0]) if last is not None and ends else name


def _run(operation: Operation, attributes: Mapping[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
    return operation(inputs, attributes)


def _called(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name or ', '.join(node.output)}'"


def _tensor(tensor: TensorProto) -> torch.Tensor:
    try:
        values = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
    except (ValueError, TypeError, RuntimeError) as error:
        raise ExportError(f"the constant '{tensor.name}' cannot be read: {error}") from None
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
