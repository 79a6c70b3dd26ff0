"""Reading what an ONNX file takes, without running it."""

from __future__ import annotations

from typing import Literal

import onnx
from google.protobuf.message import DecodeError

from netsmith.errors import ExportError

MAX_BYTES = 2 * 2**30
_TYPES: dict[int, Literal["float32", "uint8"]] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.UINT8: "uint8",
}


def input_of(model: bytes) -> tuple[tuple[int, int, int], Literal["float32", "uint8"]]:
    """Return the shape (C, H, W) and type of the images that an ONNX file takes.

    Raises :class:`ExportError` where the file is not ONNX, has several inputs, or takes no images of a
    fixed size.
    """
    if len(model) > MAX_BYTES:
        raise ExportError(f"the file has {len(model)} bytes; at most {MAX_BYTES} are read")
    try:
        graph = onnx.load_model_from_string(model).graph
    except DecodeError as error:
        raise ExportError(f"the file is not an ONNX model: {error}") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise ExportError("weights that lie in other files are not read; save the model as one file")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ExportError(f"an ONNX file with one input is needed; this has {len(inputs)}")
    tensor = inputs[0].type.tensor_type
    sizes = [dimension.dim_value for dimension in tensor.shape.dim]
    if len(sizes) != 4 or min(sizes[1:]) < 1 or tensor.elem_type not in _TYPES:
        raise ExportError(
            "an input of images (N, C, H, W), float32 or uint8, with fixed C, H and W is needed; "
            f"'{inputs[0].name}' has dimensions {sizes} and type {tensor.elem_type}"
        )
    channels, height, width = sizes[1:]
    return (channels, height, width), _TYPES[tensor.elem_type]
