"""ONNX Runtime on this processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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

    @property
    def routes(self) -> bool:
        """Whether it runs files that route images along paths, which are written in float32 alone."""
        return self.precision == "float32"

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        return self.prepare_each(model, [x])[0]

    def prepare_each(self, model: bytes, images: Sequence[Array], output: str | None = None) -> list[Run]:
        """Load a file once, and return a pass over each of ``images``, (N, C, H, W).

        A pass gives ``output``, or the file's first where that is None.
        """
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
            return [passes(session, x, output) for x in images]
        except Exception as error:  # the runtime's classes are private to its C++ module
            given = ", ".join(dict.fromkeys(f"{x.shape} of {x.dtype}" for x in images))
            raise DeviceError(f"ONNX Runtime cannot run this file on input {given}: {error}") from error


def passes(session: Any, x: Array, output: str | None = None) -> Run:
    """Return a pass of a session over ``x``, after one that proves it.

    Where the file takes one image a pass, those of ``x`` go through it one after another.
    """
    taken = session.get_inputs()[0]
    outputs = [session.get_outputs()[0].name if output is None else output]
    parts = list(x[:, None]) if taken.shape[0] == 1 else [x]
    inputs = [{taken.name: part} for part in parts]
    session.run(outputs, inputs[0])

    def run() -> Array:
        results: list[Array] = [session.run(outputs, given)[0] for given in inputs]
        return results[0] if len(results) == 1 else np.concatenate(results)

    return run


def installed(device: str, extra: str = "onnxruntime") -> Any:
    """Return ONNX Runtime. Raises :class:`MissingExtraError` with the extra that brings it."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(extra, extra, f"the device '{device}'") from None
    return onnxruntime
