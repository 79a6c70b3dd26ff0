"""ONNX Runtime on this processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netsmith.devices.device import Array, Run
from netsmith.devices.local import OnnxFileRuntime
from netsmith.errors import DeviceError, MissingExtraError


@dataclass(frozen=True, slots=True)
class OnnxRuntime(OnnxFileRuntime):
    """ONNX Runtime's CPU provider."""

    runtime = "onnxruntime"

    def version(self) -> str:
        """Return the version of the installed runtime."""
        return str(installed(self.runtime).__version__)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        runtime = installed(self.runtime)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        if self.threads > 1:  # spinning threads starve each other on a shared machine
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            return passes(session, x)
        except Exception as error:  # the runtime's classes are private to its C++ module
            raise DeviceError(
                f"ONNX Runtime cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from error


def passes(session: Any, x: Array) -> Run:
    """Return a pass of a session over ``x``, after one that proves it."""
    inputs = {session.get_inputs()[0].name: x}
    outputs = [session.get_outputs()[0].name]
    session.run(outputs, inputs)

    def run() -> Array:
        result: Array = session.run(outputs, inputs)[0]
        return result

    return run


def installed(device: str, extra: str = "onnxruntime") -> Any:
    """Return ONNX Runtime. Raises :class:`MissingExtraError` with the extra that brings it."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(extra, extra, f"the device '{device}'") from None
    return onnxruntime
