"""PyTorch itself on this processor, operation by operation. Slower than a runtime made to deploy."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata as packages
from typing import ClassVar, Self

from netsmith.devices.device import Array, Run, check_options, read_threads
from netsmith.devices.local import OnnxFileRuntime
from netsmith.errors import DeviceError, ExportError, nearest

FORMATS = ("dense", "csr")
READER = "netsmith.export.module"
"""What loads PyTorch, and reads a file for it."""


@dataclass(frozen=True, slots=True)
class TorchCpu(OnnxFileRuntime):
    """PyTorch's operations on the graph of an ONNX file, in float32 and channels last.

    With ``weights`` csr those of which at least half are zero are held as compressed sparse rows, and zeros
    are not multiplied.
    """

    weights: str = "dense"

    runtime = "torch"
    options: ClassVar[tuple[str, ...]] = ("threads", "weights")

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> Self:
        """Make it from the options of a device's name."""
        check_options(cls.runtime, options, cls.options)
        weights = options.get("weights", "dense")
        if weights not in FORMATS:
            raise DeviceError(
                f"weights of 'torch' are one of {', '.join(FORMATS)}; got '{weights}'"
                f"{nearest(weights, FORMATS)}"
            )
        return cls(threads=read_threads(cls.runtime, options, here=here), weights=weights)

    @property
    def name(self) -> str:
        """Such as ``torch:threads=1`` or ``torch:threads=2,weights=csr``."""
        return f"torch:threads={self.threads}" + (
            "" if self.weights == "dense" else f",weights={self.weights}"
        )

    def fingerprint(self) -> dict[str, str]:
        """What the others tell, and that weights are not dense."""
        found = super(TorchCpu, self).fingerprint()
        return found if self.weights == "dense" else {**found, "weights": self.weights}

    def version(self) -> str:
        """Return the version of PyTorch."""
        return packages.version("torch")

    def start(self) -> None:
        """Import PyTorch and what reads files."""
        importlib.import_module(READER)

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ONNX file with one input (N, C, H, W) and return a pass over ``x``."""
        import torch

        from netsmith.export.module import OnnxModule

        try:
            module = OnnxModule(model, sparse=self.weights == "csr")
            images = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)

            def run() -> Array:
                with torch.inference_mode(), _threads(self.threads):
                    result: Array = module(images).numpy()
                return result

            run()
        except (ExportError, RuntimeError, ValueError, TypeError, KeyError, LookupError) as error:
            raise DeviceError(
                f"PyTorch cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from None
        return run


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have PyTorch use so many threads meanwhile: their number is the whole process's."""
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
