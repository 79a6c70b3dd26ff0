"""PyTorch on an NVIDIA GPU: a pass is one CUDA graph, with the copies of its image and its output."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from netsmith.devices.device import Array, Run, check_options
from netsmith.devices.local import OnnxFileRuntime
from netsmith.devices.torch_cpu import READER
from netsmith.errors import DeviceError, ExportError

if TYPE_CHECKING:
    from netsmith.devices.energy import Counter

_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class Cuda(OnnxFileRuntime):
    """The first GPU that PyTorch sees, on the graph of an ONNX file, in float32 without TF32.

    A file's operations are recorded once and played back whole, so that Python is not timed.
    """

    runtime = "cuda"
    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> Self:
        """Make it; it has no options. Raises :class:`DeviceError` where PyTorch finds no GPU."""
        check_options(cls.runtime, options, cls.options)
        if here:
            _found()
        return cls()

    @property
    def name(self) -> str:
        """It is ``cuda``."""
        return self.runtime

    def fingerprint(self) -> dict[str, str]:
        """Return what latencies depend on; the processor is the GPU."""
        known = super(Cuda, self).fingerprint()
        return {**known, "processor": str(_found().cuda.get_device_name())}

    def start(self) -> None:
        """Import PyTorch and what reads files, and have CUDA set up what it holds for any process."""
        importlib.import_module(READER)
        _found().zeros(1, device="cuda")

    def version(self) -> str:
        """Return the versions of PyTorch and CUDA."""
        torch = _found()
        return f"{torch.__version__} cuda {torch.version.cuda}"

    def held_bytes(self) -> int:
        """Return the most bytes of the GPU that this process has held."""
        return int(_found().cuda.max_memory_reserved())

    def energy_counter(self) -> Counter | None:
        """Return the counter of the GPU; None without the package nvidia-ml-py, or where it has none."""
        from netsmith.devices.energy import find_gpu_counter

        return find_gpu_counter(f"GPU-{_found().cuda.get_device_properties().uuid}")

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        torch = _found()
        from netsmith.export.module import OnnxModule

        try:
            exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
            with torch.inference_mode(), exact:
                module = OnnxModule(model).to("cuda")
                images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last).pin_memory()
                given = images.to("cuda")
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):  # CUDA asks that warming up is done beside
                    for _ in range(_WARM_UPS):
                        module(given)
                torch.cuda.current_stream().wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    output = module(given)
        except (ExportError, RuntimeError, ValueError, TypeError, LookupError) as error:
            raise DeviceError(
                f"PyTorch cannot run this file on a GPU on input {x.shape} of {x.dtype}: {error}"
            ) from None

        def run() -> Array:
            with torch.inference_mode():
                given.copy_(images, non_blocking=True)
                graph.replay()
                result: Array = output.cpu().numpy()  # waits until all is done
            return result

        return run


def _found() -> Any:
    """Return PyTorch where it finds a GPU. Raises :class:`DeviceError`."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(
            "the device 'cuda' needs an NVIDIA GPU and a PyTorch built for it; this PyTorch, "
            f"{torch.__version__}, finds none. 'netsmith devices' lists what is here"
        )
    return torch
