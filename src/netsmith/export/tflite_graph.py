"""A TFLite graph under construction: tensors, buffers and operations, and what ONNX calls them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from netsmith.export.scaled_graph import Scale, ScaledGraph, signed

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA_VERSION = 3


class TfliteGraph(ScaledGraph):
    """What is written so far; ``places`` says in which tensor each ONNX value stands."""

    def __init__(self, schema: Any, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self.schema = schema
        self.unclipped = schema.ActivationFunctionType.NONE
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT(data=np.zeros(0, np.uint8))]  # the first is always empty
        self.operators: list[Any] = []
        self.codes: dict[int, int] = {}
        (image,) = graph.input
        whole = image.type.tensor_type.elem_type == TensorProto.UINT8
        pixels = Scale(np.ones(1), np.zeros(1, np.int64)) if whole else None
        kind = np.uint8 if whole else np.float32
        self.places[image.name] = self.tensor(image.name, self.shapes[image.name], kind, pixels)

    def model(self, metadata: Mapping[str, str]) -> Any:
        """Return the schema's model of all that was written."""
        schema = self.schema
        notes = [
            schema.MetadataT(name=name, buffer=self.buffer(np.frombuffer(text.encode(), np.uint8)))
            for name, text in metadata.items()
        ]
        output = self.real(self.source.output[0].name)
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=[self.places[self.source.input[0].name]],
            outputs=[output],
            operators=self.operators,
            name="netsmith",
        )
        return schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=[
                schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1)
                for code in self.codes
            ],
            subgraphs=[graph],
            description="netsmith",
            buffers=self.buffers,
            metadata=notes,
        )

    def buffer(self, data: Array) -> int:
        """Keep bytes and return their number."""
        self.buffers.append(self.schema.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)))
        return len(self.buffers) - 1

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any,
        scale: Scale | None = None,
        data: Array | None = None,
    ) -> int:
        """Add a tensor and return its number. ``shape`` is ONNX's, batch first, unless there is ``data``."""
        schema = self.schema
        if data is None:
            rest = list(shape[1:])
            images = [*rest[1:], rest[0]] if len(rest) == 3 else rest
            sizes, signature = [1, *images], [-1, *images]
        else:
            sizes, signature = list(data.shape), None
        kinds = {
            np.float32: schema.TensorType.FLOAT32, np.int32: schema.TensorType.INT32,
            np.uint8: schema.TensorType.UINT8, np.int8: schema.TensorType.INT8,
        }  # fmt: skip
        self.tensors.append(
            schema.TensorT(
                shape=sizes,
                shapeSignature=signature,
                type=kinds[np.dtype(dtype).type],
                name=name,
                buffer=0 if data is None else self.buffer(np.ascontiguousarray(data, dtype)),
                quantization=None if scale is None else schema.QuantizationParametersT(
                    scale=scale.scale.astype(np.float32).tolist(),
                    zeroPoint=scale.zero.astype(np.int64).tolist(),
                    quantizedDimension=scale.axis,
                ),
            )
        )  # fmt: skip
        return len(self.tensors) - 1

    def operate(self, code: str, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """Add an operation; ``code`` is its name in the schema."""
        number = getattr(self.schema.BuiltinOperator, code)
        kind = type(options).__name__.removesuffix("T") if options is not None else "NONE"
        self.operators.append(
            self.schema.OperatorT(
                opcodeIndex=self.codes.setdefault(number, len(self.codes)),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(self.schema.BuiltinOptions, kind),
                builtinOptions=options,
            )
        )

    def quantized(self, place: int) -> bool:
        """Whether a tensor holds integers that stand for reals."""
        return self.tensors[place].quantization is not None

    def real(self, name: str) -> int:
        """Return the tensor of a value in float32."""
        place = self.places[name]
        if not self.quantized(place):
            return place
        converted = self.tensor(f"{name}.float", self.shapes[name], np.float32)
        self.operate("DEQUANTIZE", [place], converted)
        return converted

    def rescaled(self, place: int, like: int) -> int:
        """Return the integers of a tensor with the scale of another."""
        held, wanted = (self.tensors[i].quantization for i in (place, like))
        if (held.scale, held.zeroPoint) == (wanted.scale, wanted.zeroPoint):
            return place
        tensor = self.tensors[place]
        converted = copy.copy(tensor)
        converted.name, converted.quantization = f"{tensor.name!s}.{like}", wanted
        converted.type = self.schema.TensorType.INT8
        self.tensors.append(converted)
        self.operate("QUANTIZE", [place], len(self.tensors) - 1)
        return len(self.tensors) - 1

    def output(self, name: str, scale: Scale | None) -> int:
        """Make the tensor of an output, in float32 or in int8 of a scale, and return its number."""
        return self.tensor(name, self.shapes[name], np.float32 if scale is None else np.int8, scale)

    def constant_operand(self, name: str, values: Array, scale: Scale | None, integers: bool) -> int:
        """Return the tensor of a constant that activations are added to or multiplied with."""
        if scale is None:
            return self.tensor(name, (), np.float32, None, values)
        values = (values.astype(np.int16) - 128).astype(np.int8)
        return self.tensor(name, (), np.int8, signed(scale.scale, scale.zero), values)

    def clip_of(self, node: NodeProto) -> Any:
        """Return the activation of the schema that a Relu or a Clip to 0..6 becomes, or None."""
        kinds = self.schema.ActivationFunctionType
        return kinds.RELU if node.op_type == "Relu" else kinds.RELU6 if self.is_relu6(node) else None

    def weight(self, name: str, order: Sequence[int], axis: int) -> int:
        """Return the tensor of a kernel, its dimensions in ``order``, its channels then along ``axis``."""
        values, scale = self.constants[name].transpose(order), self.scales.get(name)
        if scale is None:
            return self.tensor(name, (), np.float32, None, values)
        scale = Scale(np.atleast_1d(scale.scale), np.atleast_1d(scale.zero), axis)
        return self.tensor(name, (), np.int8, scale, values)

    def bias(self, node: NodeProto, x: int, kernel: int) -> int:
        """Return the tensor of a node's third input; of zeros where it has none, for TFLite wants one."""
        integers = self.quantized(kernel)
        if len(node.input) < 3:
            values, scale = np.zeros(len(self.constants[node.input[1]])), None
            if integers:
                steps = np.array(self.tensors[kernel].quantization.scale)
                scale = Scale(self.tensors[x].quantization.scale[0] * steps, np.zeros(len(steps), np.int64))
            name = f"{node.name}.bias"
        else:
            name = node.input[2]
            values, scale = self.constants[name], self.scales.get(name)
            if scale is not None:
                scale = Scale(np.atleast_1d(scale.scale), np.atleast_1d(scale.zero))
        return self.tensor(name, (), np.int32 if integers else np.float32, scale, values)

    def is_relu6(self, node: NodeProto) -> bool:
        return node.op_type == "Clip" and [float(self.constants[i]) for i in node.input[1:]] == [0.0, 6.0]
