"""OpenVINO on this processor. It reads ONNX files itself, which are one file where its own format is two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from netsmith.devices.device import Array, Run
from netsmith.devices.local import OnnxFileRuntime
from netsmith.errors import DeviceError, MissingExtraError


@dataclass(frozen=True, slots=True)
class OpenVino(OnnxFileRuntime):
    """OpenVINO's CPU plugin."""

    runtime = "openvino"
    selects: ClassVar[bool] = False  # CondenseNet-86 at 32x32: 3.0 ms of dense weights, 5.4 ms by Gather

    def version(self) -> str:
        """Return the version of the installed runtime."""
        return str(_runtime().__version__).partition("-")[0]  # the build's number and branch follow

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        runtime = _runtime()
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # or bfloat16 is chosen where the processor has it
            "ENABLE_CPU_PINNING": False,  # a thread bound to a core waits for whoever else is there
        }
        try:
            core = runtime.Core()
            network = core.read_model(model)
            network.reshape(list(x.shape))  # a known shape is compiled for
            request = core.compile_model(network, "CPU", settings).create_infer_request()
            request.infer([x])
        except Exception as error:  # RuntimeError and classes of its C++ module
            raise DeviceError(
                f"OpenVINO cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from error

        def run() -> Array:
            result: Array = request.infer([x], share_inputs=True)[0]
            return result

        return run


def _runtime() -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("openvino", "openvino", "the device 'openvino'") from None
    return openvino
