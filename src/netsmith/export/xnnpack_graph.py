"""An XNNPACK graph in ExecuTorch's schema, under construction: values and operations, by ONNX's names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from netsmith.export.scaled_graph import Scale, ScaledGraph, signed

Array = np.ndarray[Any, np.dtype[Any]]
Limits = tuple[float, float]

MOST_IMAGES = 64
"""N of the images that a file takes at once: the format wants a bound."""

_NOTHING = 2**32 - 1  # as the number of a value
_INPUT, _OUTPUT = 1, 2  # flags of a value that the caller gives or takes
_NAMED = 2**64 - 1  # as an offset: the data are found by their name


class XnnpackGraph(ScaledGraph):
    """What is written so far; ``places`` says which value holds each ONNX value. Images are (N, H, W, C)."""

    def __init__(self, schema: Any, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self.schema = schema
        self.values: list[Any] = []
        self.nodes: list[Any] = []
        self.data: dict[str, bytes] = {}  # of constants, by the name that their place is looked up by
        self.offsets = [schema.ConstantDataOffset(0, 0)]  # the first stands for no data
        self._reals: dict[int, int] = {}  # of values that are not in float32, those that are
        (image,) = graph.input
        pixels = image.type.tensor_type.elem_type == TensorProto.UINT8
        self.input_type = "uint8" if pixels else "float32"
        # Given as (N, C, H, W): a value's sizes are turned round, so its own are turned beforehand.
        _, channels, height, width = self.shapes[image.name]
        given = self.value((0, width, channels, height), pixels=pixels)
        self._make_external(given, 0, _INPUT)
        self.places[image.name] = self.transposed(given, (0, 2, 3, 1))

    def finish(self) -> Any:
        """Return the schema's graph of all that was written, its output (N, C, H, W) or (N, classes)."""
        name = self.source.output[0].name
        place = self.real(name)
        if len(self.shapes[name]) == 4:
            place = self.transposed(place, (0, 3, 1, 2))
        self._make_external(place, 1, _OUTPUT)
        return self.schema.XNNGraph(
            version="0",
            xnodes=self.nodes,
            xvalues=[self.schema.XValue(value) for value in self.values],
            num_externs=2,
            input_ids=[0],
            output_ids=[place],
            constant_data=self.offsets,
        )

    def value(self, shape: Sequence[int], scale: Scale | None = None, *, pixels: bool = False) -> int:
        """Add a value and return its number. ``shape`` is ONNX's; of integers where there is a ``scale``."""
        rest = list(shape[1:])
        sizes = [MOST_IMAGES, *([*rest[1:], rest[0]] if len(rest) == 3 else rest)]
        if pixels:
            return self._add("quint8", sizes, self.schema.PerTensorQuant(1.0, 0))
        return self._add("fp32" if scale is None else "qint8", sizes, self._quantization(scale))

    def constant(self, values: Array, scale: Scale | None = None) -> int:
        """Add a value that is known, and return its number; int8 or int32 where there is a ``scale``."""
        kind = "fp32"
        if scale is not None:
            kind = f"q{'c' if scale.scale.size > 1 else ''}int{8 * values.dtype.itemsize}"
        else:
            values = values.astype(np.float32)
        return self._add(kind, list(values.shape) or [1], self._quantization(scale), self._keep(values))

    def _keep(self, values: Array, use: str = "") -> int:
        """Keep the bytes of a constant and return their number; the runtime looks them up by their name."""
        data = np.ascontiguousarray(values).tobytes()
        name = use + hashlib.sha256(data).hexdigest()
        self.data[name] = data
        self.offsets.append(self.schema.ConstantDataOffset(_NAMED, len(data), name))
        return len(self.offsets) - 1

    def _add(self, kind: str, sizes: list[int], quantization: Any, data: int = 0) -> int:
        value = self.schema.XNNTensorValue(
            datatype=getattr(self.schema.XNNDatatype, f"xnn_datatype_{kind}"),
            num_dims=len(sizes),
            dims=sizes,
            constant_buffer_idx=data,
            external_id=_NOTHING,
            flags=0,
            id_out=len(self.values),
        )
        self.values.append(
            value if quantization is None else self.schema.XNNQuantizedTensorValue(value, quantization)
        )
        return len(self.values) - 1

    def _quantization(self, scale: Scale | None) -> Any:
        if scale is None:
            return None
        if scale.scale.size == 1:
            return self.schema.PerTensorQuant(float(scale.scale.item()), int(scale.zero.item()))
        kept = self._keep(scale.scale.astype(np.float32), "scale_")
        return self.schema.PerChannelQuant([], scale.axis, kept, scale.scale.size)

    def _tensor(self, place: int) -> Any:
        value = self.values[place]
        return value if isinstance(value, self.schema.XNNTensorValue) else value.tensor_value

    def _make_external(self, place: int, number: int, flag: int) -> None:
        tensor = self._tensor(place)
        tensor.external_id, tensor.flags = number, flag

    def operate(self, operation: Any, limits: Limits | None = None) -> None:
        """Add an operation, its results kept within ``limits``."""
        bounds = None
        if limits is not None:
            low, high = (v if np.isfinite(v) else "+inf" for v in limits)
            bounds = self.schema.OutputMinMax(low, high)
        self.nodes.append(self.schema.XNode(operation, len(self.nodes), bounds))

    def transposed(self, place: int, order: Sequence[int]) -> int:
        """Return a value with its dimensions in another order."""
        tensor = self._tensor(place)
        kind = tensor.datatype.name.removeprefix("xnn_datatype_")
        quantization = None if self.values[place] is tensor else self.values[place].quant_params
        moved = self._add(kind, [tensor.dims[i] for i in order], quantization)
        self.operate(self.schema.XNNStaticTranspose(len(order), list(order), place, moved, 0))
        return moved

    def quantized(self, place: int) -> bool:
        """Whether a value holds signed integers that stand for reals."""
        return bool(self._tensor(place).datatype == self.schema.XNNDatatype.xnn_datatype_qint8)

    def real(self, name: str) -> int:
        """Return the value in float32."""
        place = self.places[name]
        tensor = self._tensor(place)
        if self.values[place] is tensor:
            return place
        if place not in self._reals:
            self._reals[place] = self._add("fp32", list(tensor.dims), None)
            self.operate(self.schema.XNNConvert(place, self._reals[place], 0))
        return self._reals[place]

    def rescaled(self, place: int, like: int) -> int:
        """Return the integers of a value with the scale of another."""
        wanted = self.values[like].quant_params
        if self.values[place].quant_params == wanted:
            return place
        tensor = self._tensor(place)
        converted = self._add("qint8", list(tensor.dims), wanted)
        self.operate(self.schema.XNNConvert(place, converted, 0))
        return converted

    def real_result(self, name: str) -> int:
        """Make the value of an output in float32."""
        self.places[name] = self.value(self.shapes[name])
        return self.places[name]

    def output(self, name: str, scale: Scale | None) -> int:
        """Make the value of an output, in float32 or in int8 of a scale, and return its number."""
        return self.value(self.shapes[name], scale)

    def constant_operand(self, name: str, values: Array, scale: Scale | None, integers: bool) -> int:
        """Return the value of a constant that activations are added to or multiplied with."""
        if scale is None:
            return self.constant(values)
        if not integers:
            return self.constant((values.astype(np.float32) - scale.zero) * scale.scale)
        return self.constant((values.astype(np.int16) - 128).astype(np.int8), signed(scale.scale, scale.zero))

    def clip_of(self, node: NodeProto) -> Limits | None:
        """Return the limits of a Clip or Relu, or None."""
        return self.limits(node) if node.op_type in ("Clip", "Relu") else None

    def weight(self, name: str, order: Sequence[int], axis: int, integers: bool) -> int:
        """Return the value of a kernel, its dimensions in ``order``, its channels then along ``axis``."""
        values, scale = self.constants[name], self.scales.get(name)
        if scale is None:
            return self.constant(values.transpose(order))
        scales, zeros = np.atleast_1d(scale.scale), np.atleast_1d(scale.zero)
        if integers:
            return self.constant(values.transpose(order), Scale(scales, zeros, axis))
        apart = (-1,) + (1,) * (values.ndim - 1)
        reals = (values.astype(np.float32) - zeros.reshape(apart)) * scales.reshape(apart)
        return self.constant(reals.transpose(order))

    def bias(self, node: NodeProto, integers: bool) -> int:
        """Return the value of a node's third input, or the number that stands for none."""
        if len(node.input) < 3:
            return _NOTHING
        values, scale = self.constants[node.input[2]], self.scales.get(node.input[2])
        if scale is None:
            return self.constant(values)
        scales, zeros = np.atleast_1d(scale.scale), np.atleast_1d(scale.zero)
        if integers:
            return self.constant(values.astype(np.int32), Scale(scales, zeros))
        return self.constant(values * scales)

    def limits(self, node: NodeProto) -> Limits:
        """Return the limits of a Clip or Relu."""
        if node.op_type == "Relu":
            return 0.0, float("inf")
        low, high = (float(self.constants[name]) for name in node.input[1:])
        return low, high
