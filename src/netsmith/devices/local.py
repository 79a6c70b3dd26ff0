"""What the runtimes on this processor have in common: options, name, fingerprint, clock."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from netsmith.devices.device import (
    Array,
    InputType,
    Layout,
    Precision,
    check_options,
    processor,
    read_precision,
    read_threads,
    system,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class LocalRuntime(ABC):
    """A runtime with ``threads`` threads inside an operation and weights and activations of ``precision``."""

    threads: int = 1
    precision: Precision = "float32"

    runtime: ClassVar[str]
    """Its name in the text that a device is made from."""

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Self:
        """Make it from the options of a device's name: ``threads`` and ``precision``."""
        check_options(cls.runtime, options, ("threads", "precision"))
        return cls(read_threads(cls.runtime, options), read_precision(cls.runtime, options))

    @property
    def name(self) -> str:
        """Such as ``onnxruntime:threads=1`` or ``openvino:threads=2,precision=int8``."""
        precision = "" if self.precision == "float32" else f",precision={self.precision}"
        return f"{self.runtime}:threads={self.threads}{precision}"

    def fingerprint(self) -> dict[str, str]:
        """Processor, runtime and version, threads, precision and operating system."""
        return {
            "processor": processor(),
            "runtime": self.runtime,
            "version": self.version(),
            "threads": str(self.threads),
            "precision": self.precision,
            "system": system(),
        }

    def clock(self) -> int:
        """Wall time in nanoseconds."""
        return time.perf_counter_ns()

    @abstractmethod
    def version(self) -> str:
        """Return the version of the installed runtime."""


@dataclass(frozen=True, slots=True)
class OnnxFileRuntime(LocalRuntime):
    """A runtime on this processor that reads ONNX files."""

    suffix: ClassVar[str] = ".onnx"
    layout: ClassVar[Layout] = "NCHW"

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an ONNX file takes."""
        from netsmith.export.inputs import input_of

        return input_of(model)

    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        metadata: Mapping[str, str] | None = None,
        calibration: Array | None = None,
    ) -> bytes:
        """Write an ONNX file. Raises :class:`netsmith.errors.ExportError` where that cannot be done."""
        from netsmith.export.onnx import write_onnx  # loads PyTorch, which running a file does not need

        return write_onnx(
            module,
            input_shape,
            input_type=input_type,
            metadata=metadata,
            precision=self.precision,
            calibration=calibration,
        )
