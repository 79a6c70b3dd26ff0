"""ONNX Runtime on this processor."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from netsmith.devices.device import Array, Run, check_options, processor, system
from netsmith.errors import DeviceError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """ONNX Runtime's CPU provider in float32, with ``threads`` threads inside an operation."""

    threads: int = 1

    suffix = ".onnx"

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= 1024:
            raise DeviceError(f"threads is a number from 1 to 1024; got {self.threads}")

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> OnnxRuntime:
        """Make it from the options of a device's name: ``threads``."""
        check_options("onnxruntime", options, ("threads",))
        text = options.get("threads", "1")
        if not text.isdecimal():
            raise DeviceError(f"threads is a whole number; got '{text}'")
        available = os.cpu_count() or 1
        if int(text) > available:
            raise DeviceError(
                f"threads={text} was asked, but this machine has {available}: latency with more threads "
                f"than processors means nothing. Ask for 1 to {available}"
            )
        return cls(int(text))

    @property
    def name(self) -> str:
        """Such as ``onnxruntime:threads=1``."""
        return f"onnxruntime:threads={self.threads}"

    def fingerprint(self) -> dict[str, str]:
        """Processor, runtime and version, threads, precision and operating system."""
        return {
            "processor": processor(),
            "runtime": "onnxruntime",
            "version": str(_runtime().__version__),
            "threads": str(self.threads),
            "precision": "float32",
            "system": system(),
        }

    def clock(self) -> int:
        """Wall time in nanoseconds."""
        return time.perf_counter_ns()

    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: Literal["float32", "uint8"] = "float32",
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Write an ONNX file. Raises :class:`netsmith.errors.ExportError` where that cannot be done."""
        from netsmith.export.onnx import write_onnx  # loads PyTorch, which running a file does not need

        return write_onnx(module, input_shape, input_type=input_type, metadata=metadata)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        if self.threads > 1:  # spinning threads starve each other on a shared machine
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            inputs = {session.get_inputs()[0].name: x}
            outputs = [session.get_outputs()[0].name]
            session.run(outputs, inputs)
        except Exception as error:  # the runtime's classes are private to its C++ module
            raise DeviceError(
                f"ONNX Runtime cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from error

        def run() -> Array:
            result: Array = session.run(outputs, inputs)[0]
            return result

        return run


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnxruntime", "the device 'onnxruntime'") from None
    return onnxruntime
