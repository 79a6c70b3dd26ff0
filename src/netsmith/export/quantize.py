"""Static quantisation of an ONNX network to 8 bits, after training.

Weights become signed integers, one scale a channel, and activations unsigned ones, their ranges those seen on
calibration images (Jacob et al. 2018, section 3): the one pairing that processors run faster than float32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from netsmith.errors import ExportError, MissingExtraError

_BATCH = 32
_WEIGHTED = ("Conv", "Gemm", "MatMul")

Array = np.ndarray[Any, np.dtype[Any]]


def quantize(model: onnx.ModelProto, calibration: Array, floating: Collection[str] = ()) -> onnx.ModelProto:
    """Return the float32 ``model`` with 8-bit weights and activations between its operations.

    ``calibration`` is (N, C, H, W) of the model's input type: images such as it will see. Input and output
    stay as they are, and so do the nodes named in ``floating`` with what only stands between them. Raises
    :class:`ExportError` where there are no images or the model cannot be quantised,
    :class:`MissingExtraError` without ONNX Runtime, whose quantiser this is.
    """
    try:
        import onnxruntime.quantization as quantization
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnxruntime", "int8 precision") from None
    if len(calibration) == 0:
        raise ExportError("quantisation needs images to find the ranges of activations; got none")
    with tempfile.TemporaryDirectory(prefix="netsmith-") as folder, _quiet():
        path = Path(folder) / "quantized.onnx"
        try:
            quantization.quantize_static(
                model,
                str(path),
                _Batches(model.graph.input[0].name, calibration),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_between(model.graph, floating) if floating else [],
            )
        except Exception as error:  # classes of several libraries
            raise ExportError(f"the network cannot be quantised to int8: {error}") from error
        return onnx.load_model(path)


def _between(graph: onnx.GraphProto, floating: Collection[str]) -> list[str]:
    """``floating`` and the nodes without weights that are computed from theirs alone.

    An image's pixels count as theirs where all layers that read them, through nodes without weights, are.
    """
    kept = set(floating)
    readers = {x: [node for node in graph.node if x in node.input] for node in graph.node for x in node.input}
    made = {output: node.name for node in graph.node for output in node.output}
    constant = {tensor.name for tensor in graph.initializer}

    def first(x: str) -> Iterator[onnx.NodeProto]:
        for node in readers.get(x, []):
            yield from [node] if node.op_type in _WEIGHTED else first(node.output[0])

    pixels = graph.input[0].name
    float_pixels = all(node.name in kept for node in first(pixels))
    for node in graph.node:  # each behind what it reads
        sources = [x for x in node.input if x and x not in constant]
        if node.op_type not in _WEIGHTED and all(
            float_pixels if x == pixels else made[x] in kept for x in sources
        ):
            kept.add(node.name)
    return sorted(kept)


class _Batches:
    """What the quantiser reads its images from: a ``CalibrationDataReader``, which it knows by its method."""

    def __init__(self, name: str, images: Array) -> None:
        self._batches = iter([{name: images[i : i + _BATCH]} for i in range(0, len(images), _BATCH)])

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch by the name of the model's input, None after the last."""
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the quantiser's advice, given at every call, to fold what is folded already."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
