"""What a device is, and the devices that Netsmith knows by name."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from netsmith.errors import DeviceError, MissingExtraError, nearest

if TYPE_CHECKING:  # timing a file needs no PyTorch, and must not pay for its memory
    from torch import nn

    from netsmith.devices.measure import Latency
    from netsmith.devices.memory import Footprint
    from netsmith.devices.session import Session

Array = np.ndarray[Any, np.dtype[Any]]
InputType = Literal["float32", "uint8"]
Layout = Literal["NCHW", "NHWC"]
Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
MOST_THREADS = 1024
WEIGHT_BYTES: dict[Precision, int] = {"float32": 4, "int8": 1}
Run = Callable[[], Array]
"""One finished pass over the input that it was prepared with; returns the output, (N, classes)."""


class Device(Protocol):
    """Something that runs a network and can be timed: a runtime with its threads and precision."""

    @property
    def name(self) -> str:
        """The text that :func:`parse` makes this device from, such as ``onnxruntime:threads=1``."""

    @property
    def suffix(self) -> str:
        """The ending of the files that it runs, such as ``.onnx``."""

    @property
    def precision(self) -> Precision:
        """What weights and activations are stored in."""

    @property
    def layout(self) -> Layout:
        """The order of an image's dimensions in the files that it runs."""

    def fingerprint(self) -> dict[str, str]:
        """Everything that a latency depends on: processor, runtime and version, threads, precision, os."""

    def clock(self) -> int:
        """Return the time that this device is measured by, in nanoseconds, from any zero."""

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
        """Write ``module`` for images of ``input_shape`` (C, H, W) in a format that the runtime reads.

        ``calibration`` is (N, C, H, W) of ``input_type``, images that an int8 device sets its ranges by. It
        may be left out where only latency counts. The layers ``floating``, by their names in ``module``, stay
        float32 on such a device.
        """

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an exported file takes.

        Raises :class:`netsmith.errors.NetsmithError` where it is not such a file.
        """

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load ``model`` and return a function, each call of which is one finished pass over ``x``.

        ``x`` is (N, C, H, W). Raises :class:`DeviceError` where the runtime refuses either.
        """

    def time(
        self, files: Mapping[str, bytes], reference: bytes | None, session: Session
    ) -> dict[str, Latency]:
        """Time exported files in turn on random pixels, the file ``reference`` beside each sample."""

    def footprint(self, model: bytes) -> Footprint:
        """Load and run an exported file on one image in a process of its own, and return what it took."""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device that may be named, and whether it can be used here."""

    name: str
    package: str
    extra: str
    summary: str
    version: str | None
    """The version of the installed package; None where it is missing."""
    missing: str
    """What is needed before it can be used here; nothing where it can."""


# name -> where its class is, its package, the extra that brings it, and one line about it. Classes
# are named as text so that listing them imports no runtime.
_DEVICES = {
    "onnxruntime": (
        "netsmith.devices.onnx_runtime:OnnxRuntime",
        "onnxruntime",
        "onnxruntime",
        "ONNX Runtime on this processor; options: threads, precision",
    ),
    "openvino": (
        "netsmith.devices.openvino:OpenVino",
        "openvino",
        "openvino",
        "OpenVINO on this processor; options: threads, precision",
    ),
    "litert": (
        "netsmith.devices.litert:LiteRt",
        "ai-edge-litert",
        "litert",
        "LiteRT (TensorFlow Lite, XNNPACK) on this processor; options: threads, precision",
    ),
    "executorch": (
        "netsmith.devices.executorch:ExecuTorch",
        "executorch",
        "executorch",
        "ExecuTorch (XNNPACK) on this processor; options: threads, precision",
    ),
    "mnn": (
        "netsmith.devices.mnn:Mnn",
        "MNN",
        "mnn",
        "MNN on this processor; options: threads",
    ),
    "ncnn": (
        "netsmith.devices.ncnn:Ncnn",
        "ncnn",
        "ncnn",
        "ncnn on this processor; options: threads",
    ),
    "torch": (
        "netsmith.devices.torch_cpu:TorchCpu",
        "torch",
        "dev",
        "PyTorch itself on this processor, the slowest here; options: threads, weights (dense, csr)",
    ),
    "cuda": (
        "netsmith.devices.cuda:Cuda",
        "torch",
        "cuda",
        "PyTorch on an NVIDIA GPU, where it finds one",
    ),
    "onnxruntime-cuda": (
        "netsmith.devices.onnx_gpu:OnnxCuda",
        "onnxruntime-gpu",
        "onnxruntime-gpu",
        "ONNX Runtime on an NVIDIA GPU, by CUDA",
    ),
    "tensorrt": (
        "netsmith.devices.onnx_gpu:TensorRt",
        "onnxruntime-gpu",
        "onnxruntime-gpu",
        "TensorRT on an NVIDIA GPU, through ONNX Runtime",
    ),
}
_NEEDS_GPU = ("cuda", "onnxruntime-cuda", "tensorrt")
_READERS = {".onnx": "onnxruntime", ".tflite": "litert", ".pte": "executorch", ".mnn": "mnn", ".ncnn": "ncnn"}
_UNLISTED = {"fake": ("netsmith.testing:FakeDevice", "onnxruntime", "onnxruntime", "")}


_AGENT = ("agent", "httpx2", "agent", "a runtime of another machine: agent://HOST:PORT?runtime=DEVICE")
_TABLE = (
    "table",
    "onnxruntime",
    "onnxruntime",
    "a latency table in a device's place: table:FILE, table:NAME",
)
_TABLE_CLASS = "netsmith.pipeline.tabled:TableDevice"


def known_devices() -> tuple[KnownDevice, ...]:
    """Return every device that can be designed for, with the installed version of its package."""
    entries = [(name, *entry[1:]) for name, entry in _DEVICES.items()]
    return tuple(
        KnownDevice(name, package, extra, summary, _version(package), _missing(name, package, extra))
        for name, package, extra, summary in [*entries, _AGENT, _TABLE]
    )


def _missing(name: str, package: str, extra: str) -> str:
    version = _version(package)
    if version is None:
        return f"pip install 'netsmith[{extra}]'"
    torch = _version("torch") or "+cpu"
    if name in _NEEDS_GPU and (torch.endswith("+cpu") or shutil.which("nvidia-smi") is None):
        return "an NVIDIA GPU, and a PyTorch built for it"
    return ""


def reader_of(suffix: str) -> str:
    """Return the name of a device that runs files of this ending. Raises :class:`DeviceError`."""
    if suffix not in _READERS:
        raise DeviceError(
            f"no device is known for files that end in '{suffix}', only in {', '.join(_READERS)}; name one"
        )
    return _READERS[suffix]


def parse(text: str, *, here: bool = True) -> Device:
    """Make a device from its name and options, such as ``onnxruntime:threads=2``.

    An agent is made from its address, and a table in a device's place from ``table:FILE``. One that is not
    ``here`` can only write files: its package may be missing and its threads may be more than there are.
    Raises :class:`DeviceError` on an unknown name or option, :class:`MissingExtraError` where the runtime's
    package is not installed, :class:`netsmith.errors.TableError` where a table cannot be read.
    """
    if here and text.strip().startswith(("agent://", "agents://")):
        from netsmith.devices.agent.client import AgentDevice

        return AgentDevice.from_address(text.strip())
    name, _, rest = text.strip().partition(":")
    if here and name == "table":
        return cast(Device, _attribute(_TABLE_CLASS).from_name(rest))
    entry = _DEVICES.get(name) or _UNLISTED.get(name)
    if entry is None:
        raise DeviceError(
            f"no device is called '{name}'{nearest(name, _DEVICES)}. Known: {', '.join(_DEVICES)}"
        )
    place, package, extra, _ = entry
    if here and _version(package) is None:
        raise MissingExtraError(package, extra, f"the device '{name}'")
    return cast(Device, _attribute(place).from_options(_options(text, rest), here=here))


def _attribute(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _options(text: str, rest: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals or not value or key in options:
            raise DeviceError(
                f"options of a device are written NAME:OPTION=VALUE,OPTION=VALUE, each once; got '{text}'"
            )
        options[key] = value
    return options


def check_options(device: str, options: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Raise :class:`DeviceError` on an option that ``device`` does not have."""
    for option in options:
        if option not in allowed:
            raise DeviceError(
                f"device '{device}' has no option '{option}'{nearest(option, allowed)}. "
                f"Known: {', '.join(allowed) or 'none'}"
            )


def read_threads(device: str, options: Mapping[str, str], *, here: bool = True) -> int:
    """Return the option ``threads``, 1 where it is not given. Raises :class:`DeviceError`.

    More than this machine has are refused for a device that is ``here``.
    """
    text = options.get("threads", "1")
    if not text.isdecimal():
        raise DeviceError(f"threads of '{device}' is a whole number; got '{text}'")
    threads, available = int(text), (os.cpu_count() or 1) if here else MOST_THREADS
    if not 1 <= threads <= available:
        raise DeviceError(
            f"threads={text} was asked of '{device}', but this machine has {available}: latency with more "
            f"threads than processors means nothing. Ask for 1 to {available}"
        )
    return threads


def read_precision(device: str, options: Mapping[str, str]) -> Precision:
    """Return the option ``precision``, float32 where it is not given. Raises :class:`DeviceError`."""
    text = options.get("precision", "float32")
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise DeviceError(
        f"precision of '{device}' is one of {', '.join(PRECISIONS)}; got '{text}'{nearest(text, PRECISIONS)}"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's model as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields: dict[str, str] = {}
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        names = [fields.get("model name", "")]
        names += [f"{k.split()[-1]} {fields[k]}" for k in ("cpu family", "model", "stepping") if k in fields]
        if any(names):
            return " ".join(filter(None, names))
    return platform.processor() or platform.machine() or "unknown processor"


def system() -> str:
    """Return the operating system and machine type, without the version of its kernel."""
    return f"{platform.system()} {platform.machine()}"
