"""ncnn on this processor.

Its files are uncompressed zip archives of the two that ncnn loads, see :mod:`netsmith.export.ncnn`. Damage
is found by the checksums of the archive, and layers that do not fit each other are refused before ncnn sees
them. ncnn does not check everything else that a file claims: one that was made to do harm may end the
process. An agent runs each file in a process of its own.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netsmith.devices.device import Array, InputType, Layout, Run
from netsmith.devices.local import LocalRuntime
from netsmith.errors import DeviceError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn

_LAYERS, _WEIGHTS, _NOTES = "model.ncnn.param", "model.ncnn.bin", "netsmith.json"
_MOST_TEXT = 16 * 2**20
_MAGIC = "7767517"
# What reading an archive, JSON and numbers raises where they are not what they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    ValueError,
    LookupError,
    TypeError,
    RecursionError,
    NotImplementedError,
    EOFError,
)


@dataclass(frozen=True, slots=True)
class Ncnn(LocalRuntime):
    """ncnn's interpreter, in float32. It runs one image at a time; a pass over several takes them in turn.

    ncnn reads float32 alone: to make it of pixels is part of a pass. Its threads spin while they wait for
    each other, and so starve each other where the machine does other work; they sleep with
    OMP_WAIT_POLICY=PASSIVE in the environment of the process.
    """

    runtime = "ncnn"
    options: ClassVar[tuple[str, ...]] = ("threads",)
    suffix: ClassVar[str] = ".ncnn"
    layout: ClassVar[Layout] = "NCHW"

    def version(self) -> str:
        """Return the version of the installed runtime."""
        return str(_runtime().__version__)

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
        """Write an ncnn file. Raises :class:`netsmith.errors.ExportError` where that cannot be done."""
        from netsmith.export.ncnn import write_ncnn
        from netsmith.export.onnx import to_onnx  # loads PyTorch, which running a file does not need

        model = to_onnx(module, input_shape, input_type=input_type, select=False)  # it has no Gather
        return write_ncnn(model, metadata)

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an ncnn file takes."""
        file = _File.read(model)
        return file.shape, file.input_type

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ncnn file and return a pass over ``x``, (N, C, H, W)."""
        file = _File.read(model)
        if x.ndim != 4 or x.shape[1:] != file.shape or x.dtype != np.dtype(file.input_type):
            wanted = "(N, {}, {}, {})".format(*file.shape)
            raise DeviceError(
                f"this ncnn file takes {wanted} of {file.input_type}; got {x.shape} of {x.dtype}"
            )
        channels, height, width = file.shape
        network, given = self._load(file), _runtime().Mat(width, height, channels)
        pixels = np.asarray(given)  # the same memory: ncnn wants it aligned, and to own it

        def run() -> Array:
            outputs = []
            for image in x:
                pixels[...] = image
                extractor = network.create_extractor()
                extractor.input(file.input_name, given)
                status, output = extractor.extract(file.output_name)
                if status != 0:
                    raise DeviceError(f"ncnn cannot run this file on {x.shape}: error {status}")
                outputs.append(np.array(output))
            return np.stack(outputs)

        run()
        return run

    def _load(self, file: _File) -> Any:
        """Return ncnn's network of a file, which it reads from paths."""
        network = _runtime().Net()
        network.opt.num_threads = self.threads
        network.opt.use_vulkan_compute = False
        for part in ("packed", "storage", "arithmetic"):
            setattr(network.opt, f"use_fp16_{part}", False)
        network.opt.use_bf16_packed = network.opt.use_bf16_storage = False
        with tempfile.TemporaryDirectory(prefix="netsmith-") as folder:
            layers, weights = Path(folder) / _LAYERS, Path(folder) / _WEIGHTS
            layers.write_text(file.layers, encoding="ascii")
            weights.write_bytes(file.weights)
            if network.load_param(str(layers)) != 0 or network.load_model(str(weights)) != 0:
                raise DeviceError("ncnn cannot load this file: see what it says on standard error")
        return network


@dataclass(frozen=True, slots=True)
class _File:
    """What an archive holds, and what its layers take and give."""

    layers: str
    weights: bytes
    shape: tuple[int, int, int]
    input_type: InputType
    input_name: str
    output_name: str

    @classmethod
    def read(cls, model: bytes) -> _File:
        """Read an archive; nothing is unpacked to disk. Raises :class:`DeviceError` where it is not one."""
        try:
            with zipfile.ZipFile(io.BytesIO(model)) as archive:
                parts = _members(archive, len(model))
            layers, notes = parts[_LAYERS].decode("ascii"), json.loads(parts[_NOTES])
            shape, input_name, output_name = _ends(layers)
            input_type = notes["input_type"]
            if input_type not in ("float32", "uint8"):
                raise ValueError(f"its images are of type {input_type!r}")
        except _DAMAGE as error:
            raise DeviceError(f"this is not a file of ncnn's two parts: {error}") from None
        return cls(layers, parts[_WEIGHTS], shape, input_type, input_name, output_name)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    """Return the three members. Each must be stored as it is, so that none is larger than the archive."""
    infos = {info.filename: info for info in archive.infolist()}
    if set(infos) != {_LAYERS, _WEIGHTS, _NOTES} or len(archive.infolist()) != 3:
        raise ValueError(f"it holds {sorted(infos)[:5]}, not {_LAYERS}, {_WEIGHTS} and {_NOTES}")
    for name, info in infos.items():
        most = size if name == _WEIGHTS else min(size, _MOST_TEXT)
        if info.compress_type != zipfile.ZIP_STORED or max(info.file_size, info.compress_size) > most:
            raise ValueError(f"'{name}' is compressed or claims {info.file_size} bytes")
    return {name: archive.read(info) for name, info in infos.items()}


def _ends(text: str) -> tuple[tuple[int, int, int], str, str]:
    """Return the image (C, H, W) that layers take, and the names of input and output.

    Raises :class:`ValueError` where a layer reads what none before it wrote, or something is read twice: ncnn
    follows such names without looking.
    """
    magic, counts, *lines = text.split("\n")
    rows = [line.split() for line in lines if line.strip()]
    unread: list[str] = []
    written: set[str] = set()
    images = []
    for row in rows:
        kind, _, given, made = *row[:2], int(row[2]), int(row[3])
        inputs, outputs = row[4 : 4 + given], row[4 + given : 4 + given + made]
        if min(given, made) < 0 or len(outputs) != made or len({*outputs}) != made or written & {*outputs}:
            raise ValueError(f"layer '{row[1]}' is damaged")
        for name in inputs:
            unread.remove(name)  # raises ValueError where it is not there
        if kind == "Input":
            images.append((outputs[0], dict(item.split("=") for item in row[4 + given + made :])))
        unread += outputs
        written |= {*outputs}
    if magic != _MAGIC or counts.split() != [str(len(rows)), str(len(written))]:
        raise ValueError("its layers are not as many as it says")
    if len(images) != 1 or len(unread) != 1:
        raise ValueError(f"it has {len(images)} inputs and {len(unread)} outputs")
    name, sizes = images[0]
    channels, height, width = (int(sizes[key]) for key in ("2", "1", "0"))
    if min(channels, height, width) < 1:
        raise ValueError(f"it takes images of {(channels, height, width)}")
    return (channels, height, width), name, unread[0]


def _runtime() -> Any:
    try:
        import ncnn
    except ImportError:
        raise MissingExtraError("ncnn", "ncnn", "the device 'ncnn'") from None
    return ncnn
