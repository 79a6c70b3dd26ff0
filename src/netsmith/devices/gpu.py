"""What the runtimes on an NVIDIA GPU have in common: the GPU that PyTorch finds, and its energy counter."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from netsmith.devices.device import check_options
from netsmith.devices.local import OnnxFileRuntime
from netsmith.errors import DeviceError

if TYPE_CHECKING:
    from netsmith.devices.energy import Counter


@dataclass(frozen=True, slots=True)
class GpuRuntime(OnnxFileRuntime, ABC):
    """A runtime on the first GPU that PyTorch sees; it reads ONNX files, in float32 without TF32."""

    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> Self:
        """Make it; it has no options. Raises :class:`DeviceError` where PyTorch finds no GPU."""
        check_options(cls.runtime, options, cls.options)
        if here:
            gpu_of(cls.runtime)
        return cls()

    @property
    def name(self) -> str:
        """That of the runtime, which has no options."""
        return self.runtime

    def fingerprint(self) -> dict[str, str]:
        """Return what latencies depend on; the processor is the GPU."""
        known = super(GpuRuntime, self).fingerprint()
        return {**known, "processor": str(gpu_of(self.runtime).cuda.get_device_name())}

    def start(self) -> None:
        """Import the runtime, and have CUDA set up what it holds for any process."""
        self.version()
        gpu_of(self.runtime).zeros(1, device="cuda")

    def energy_counter(self) -> Counter | None:
        """Return the counter of the GPU; None without the package nvidia-ml-py, or where it has none."""
        from netsmith.devices.energy import find_gpu_counter

        return find_gpu_counter(f"GPU-{gpu_of(self.runtime).cuda.get_device_properties().uuid}")


def gpu_of(device: str) -> Any:
    """Return PyTorch where it finds a GPU for ``device``. Raises :class:`DeviceError`."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError(
            f"the device '{device}' needs an NVIDIA GPU and a PyTorch built for it; this PyTorch, "
            f"{torch.__version__}, finds none. 'netsmith devices' lists what is here"
        )
    return torch
