"""PyTorch on an NVIDIA GPU: a pass is one CUDA graph, with the copies of its image and its output."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from netsmith.devices.device import Array, Run
from netsmith.devices.gpu import GpuRuntime, gpu_of
from netsmith.devices.torch_cpu import READER
from netsmith.errors import DeviceError, ExportError

_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class Cuda(GpuRuntime):
    """PyTorch's operations on the graph of an ONNX file.

    They are recorded once and played back whole, so that Python is not timed.
    """

    runtime = "cuda"

    def version(self) -> str:
        """Return the versions of PyTorch and CUDA."""
        torch = gpu_of(self.runtime)
        return f"{torch.__version__} cuda {torch.version.cuda}"

    def start(self) -> None:
        """Import PyTorch and what reads files, and have CUDA set up what it holds for any process."""
        importlib.import_module(READER)
        super(Cuda, self).start()

    def held_bytes(self) -> int:
        """Return the most bytes of the GPU that this process has held."""
        return int(gpu_of(self.runtime).cuda.max_memory_reserved())

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        torch = gpu_of(self.runtime)
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
