"""ONNX Runtime on an NVIDIA GPU, by its CUDA provider or by TensorRT."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from netsmith.devices.device import Array, Run
from netsmith.devices.gpu import GpuRuntime, gpu_of
from netsmith.devices.onnx_runtime import installed, passes
from netsmith.errors import DeviceError

EXTRA = "onnxruntime-gpu"
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
_TENSOR_RT = ("TensorrtExecutionProvider", {"trt_fp16_enable": "False"})


@dataclass(frozen=True, slots=True)
class OnnxGpu(GpuRuntime, ABC):
    """A provider of ONNX Runtime that must run the whole file: nothing falls back to the processor unseen."""

    providers: ClassVar[tuple[tuple[str, dict[str, str]], ...]]
    """With their options; what the first cannot run is the next one's."""

    def version(self) -> str:
        """Return the versions of ONNX Runtime and of CUDA."""
        runtime = installed(self.runtime, EXTRA)
        return f"{runtime.__version__} cuda {gpu_of(self.runtime).version.cuda}"

    def held_bytes(self) -> int:
        """Return the bytes of the GPU that all its processes hold; the runtime does not tell its own."""
        free, total = gpu_of(self.runtime).cuda.mem_get_info()
        return int(total - free)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``, copies included."""
        gpu_of(self.runtime)  # PyTorch brings the CUDA libraries that the runtime links with
        runtime, first = installed(self.runtime, EXTRA), self.providers[0][0]
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = runtime.InferenceSession(model, options, providers=list(self.providers))
            session.disable_fallback()
            if session.get_providers()[0] != first:
                raise RuntimeError(f"{first} could not be started, only {session.get_providers()}")
            return passes(session, x)
        except Exception as error:  # the runtime's classes are private to its C++ module
            raise DeviceError(
                f"{self.runtime} cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class OnnxCuda(OnnxGpu):
    """ONNX Runtime's CUDA provider."""

    runtime = "onnxruntime-cuda"
    providers = (_CUDA,)


@dataclass(frozen=True, slots=True)
class TensorRt(OnnxGpu):
    """TensorRT through ONNX Runtime; what it does not know is CUDA's."""

    runtime = "tensorrt"
    providers = (_TENSOR_RT, _CUDA)
