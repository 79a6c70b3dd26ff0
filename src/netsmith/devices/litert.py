"""LiteRT, with its XNNPACK kernels, on this processor. Its files take images with channels last."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata as packages
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netsmith.devices.device import Array, InputType, Layout, Run
from netsmith.devices.local import LocalRuntime
from netsmith.errors import DeviceError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class LiteRt(LocalRuntime):
    """LiteRT's interpreter, which was TensorFlow Lite's."""

    runtime = "litert"
    suffix: ClassVar[str] = ".tflite"
    layout: ClassVar[Layout] = "NHWC"

    def version(self) -> str:
        """Return the version of the installed runtime."""
        return packages.version("ai-edge-litert")

    def start(self) -> None:
        """Import the runtime."""
        _interpreter()

    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        metadata: Mapping[str, str] | None = None,
        calibration: Array | None = None,
        floating: Collection[str] = (),
    ) -> bytes:
        """Write a TFLite file. Raises :class:`netsmith.errors.ExportError` where that cannot be done."""
        from netsmith.export.onnx import to_onnx  # loads PyTorch, which running a file does not need
        from netsmith.export.tflite import write_tflite

        model = to_onnx(
            module,
            input_shape,
            input_type=input_type,
            precision=self.precision,
            calibration=calibration,
            floating=floating,
            select=False,  # XNNPACK has no Gather
        )
        return write_tflite(model, metadata)

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that a TFLite file takes."""
        inputs = self._load(model).get_input_details()
        kinds: dict[Any, InputType] = {np.float32: "float32", np.uint8: "uint8"}
        sizes = inputs[0]["shape"].tolist() if len(inputs) == 1 else []
        if len(sizes) != 4 or inputs[0]["dtype"] not in kinds:
            found = [(i["shape"].tolist(), np.dtype(i["dtype"]).name) for i in inputs]
            raise DeviceError(
                f"one input of images (N, H, W, C), float32 or uint8, is needed; this has {found}"
            )
        _, height, width, channels = sizes
        return (channels, height, width), kinds[inputs[0]["dtype"]]

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load a TFLite file with one input (N, H, W, C) and return a pass over ``x``, (N, C, H, W)."""
        images = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        interpreter = self._load(model)
        try:
            (given,), (asked,) = interpreter.get_input_details(), interpreter.get_output_details()
            interpreter.resize_tensor_input(given["index"], images.shape, strict=True)
            interpreter.allocate_tensors()
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
        except (ValueError, RuntimeError, TypeError) as error:
            raise DeviceError(
                f"LiteRT cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from error

        def run() -> Array:
            interpreter.set_tensor(given["index"], images)  # a pass may have overwritten it
            interpreter.invoke()
            result: Array = interpreter.get_tensor(asked["index"])
            return result.transpose(0, 3, 1, 2) if result.ndim == 4 else result

        return run

    def _load(self, model: bytes) -> Any:
        try:
            return _interpreter()(model_content=model, num_threads=self.threads)
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"LiteRT cannot load this file: {error}") from error


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "litert", "the device 'litert'") from None
    return Interpreter
