"""What the runtimes on this processor have in common: options, name, fingerprint, clock."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from netsmith.devices.device import (
    Array,
    InputType,
    Layout,
    Precision,
    Run,
    check_options,
    processor,
    read_precision,
    read_threads,
    system,
)
from netsmith.devices.energy import Counter, find_counter
from netsmith.devices.measure import Latency
from netsmith.devices.memory import Footprint, footprint_here
from netsmith.devices.session import Session, time_here

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class LocalRuntime(ABC):
    """A runtime with ``threads`` threads inside an operation and weights and activations of ``precision``."""

    threads: int = 1
    precision: Precision = "float32"

    suffix: ClassVar[str]
    layout: ClassVar[Layout]
    runtime: ClassVar[str]
    """Its name in the text that a device is made from."""
    options: ClassVar[tuple[str, ...]] = ("threads", "precision")
    """What may stand behind that name."""

    @classmethod
    def from_options(cls, options: Mapping[str, str], *, here: bool = True) -> Self:
        """Make it from the options of a device's name."""
        check_options(cls.runtime, options, cls.options)
        return cls(read_threads(cls.runtime, options, here=here), read_precision(cls.runtime, options))

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

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn on random pixels, the file ``reference`` beside each sample."""
        return time_here(self, files, reference, session)

    def footprint(self, model: bytes) -> Footprint:
        """Load and run an exported file on one image in a process of its own, and return what it took."""
        return footprint_here(self, model)

    def start(self) -> None:
        """Import the runtime, and take what a process holds of it before its first file."""
        self.version()

    def held_bytes(self) -> int:
        """Return 0: a processor's runtime holds nothing beside its process's memory."""
        return 0

    def energy_counter(self) -> Counter | None:
        """Return the counter of this processor; None where there is none to be read."""
        return find_counter()

    @abstractmethod
    def version(self) -> str:
        """Return the version of the installed runtime."""

    @abstractmethod
    def export(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        metadata: Mapping[str, str] | None = None,
        calibration: Array | None = None,
        floating: Collection[str] = (),
    ) -> bytes:
        """Write ``module`` in a format that the runtime reads."""

    @abstractmethod
    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an exported file takes."""

    @abstractmethod
    def prepare(self, model: bytes, x: Array) -> Run:
        """Load ``model`` and return a pass over ``x``, (N, C, H, W)."""


@dataclass(frozen=True, slots=True)
class OnnxFileRuntime(LocalRuntime):
    """A runtime on this processor that reads ONNX files."""

    suffix: ClassVar[str] = ".onnx"
    layout: ClassVar[Layout] = "NCHW"
    selects: ClassVar[bool] = True
    """Whether it chooses channels faster than it multiplies by zeros."""

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
        floating: Collection[str] = (),
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
            floating=floating,
            select=self.selects,
        )
