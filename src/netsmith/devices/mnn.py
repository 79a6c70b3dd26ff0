"""MNN on this processor."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata as packages
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netsmith.devices.device import Array, InputType, Layout, Run
from netsmith.devices.local import LocalRuntime
from netsmith.devices.quiet import STDERR, STDOUT, redirected
from netsmith.errors import DeviceError, ExportError, MissingExtraError

if TYPE_CHECKING:
    from torch import nn

# The converter is a function that prints, and ends the process where a model displeases it.
_CONVERT = "import sys, _tools; sys.exit(not _tools.mnnconvert(['mnnconvert', *sys.argv[1:]]))"
_CONVERT_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Mnn(LocalRuntime):
    """MNN's interpreter, in float32. Its files hold no metadata."""

    runtime = "mnn"
    options: ClassVar[tuple[str, ...]] = ("threads",)
    suffix: ClassVar[str] = ".mnn"
    layout: ClassVar[Layout] = "NCHW"

    def version(self) -> str:
        """Return the version of the installed runtime."""
        return packages.version("MNN")

    def start(self) -> None:
        """Import the runtime."""
        _engine()

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
        """Write an MNN file, by way of ONNX. Raises :class:`ExportError` where MNN cannot convert that."""
        if find_spec("_mnncengine") is None:
            raise MissingExtraError("MNN", "mnn", "writing an MNN file")
        from netsmith.export.onnx import write_onnx  # loads PyTorch, which running a file does not need

        with tempfile.TemporaryDirectory(prefix="netsmith-") as folder:
            given, made = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
            given.write_bytes(write_onnx(module, input_shape, input_type=input_type))
            names = [
                "-f",
                "ONNX",
                "--modelFile",
                str(given),
                "--MNNModel",
                str(made),
                "--bizCode",
                "netsmith",
            ]
            command = [sys.executable, "-c", _CONVERT, *names, "--keepInputFormat", "1"]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=_CONVERT_LIMIT_S, check=False
                )
            except subprocess.TimeoutExpired:
                raise ExportError(
                    f"MNN's converter took over {_CONVERT_LIMIT_S:.0f} s and was stopped"
                ) from None
            if done.returncode != 0 or not made.exists():
                said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
                raise ExportError(f"MNN's converter failed with status {done.returncode}: {said}")
            return made.read_bytes()

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an MNN file takes."""
        interpreter = _load(model)
        inputs = interpreter.getSessionInputAll(self._session(interpreter))
        pixels = [tensor.getNumpyData() for tensor in inputs.values()]
        kinds: dict[Any, InputType] = {np.float32: "float32", np.uint8: "uint8"}
        if len(pixels) != 1 or pixels[0].ndim != 4 or pixels[0].dtype.type not in kinds:
            found = [(array.shape, array.dtype.name) for array in pixels]
            raise DeviceError(
                f"one input of images (N, C, H, W), float32 or uint8, is needed; this has {found}"
            )
        _, channels, height, width = pixels[0].shape
        return (channels, height, width), kinds[pixels[0].dtype.type]

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an MNN file with one input (N, C, H, W) and return a pass over ``x``."""
        shape, input_type = self.input_of(model)
        if x.ndim != 4 or x.shape[1:] != shape or x.dtype != np.dtype(input_type):
            wanted = "(N, {}, {}, {})".format(*shape)
            raise DeviceError(f"this MNN file takes {wanted} of {input_type}; got {x.shape} of {x.dtype}")
        engine, interpreter = _engine(), _load(model)
        session = self._session(interpreter)
        interpreter.resizeTensor(interpreter.getSessionInput(session), x.shape)
        interpreter.resizeSession(session)
        given, asked = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
        # MNN keeps channels in fours; tensors of its host's order are what it converts from and to.
        kind = engine.Halide_Type_Uint8 if input_type == "uint8" else engine.Halide_Type_Float
        order, answer = engine.Tensor_DimensionType_Caffe, np.zeros(asked.getShape(), np.float32)
        images = engine.Tensor(x.shape, kind, np.ascontiguousarray(x), order)
        logits = engine.Tensor(answer.shape, engine.Halide_Type_Float, answer, order)

        def run() -> Array:
            given.copyFrom(images)
            status = interpreter.runSession(session)
            if status != 0:
                raise DeviceError(f"MNN cannot run this file on input {x.shape} of {x.dtype}: error {status}")
            asked.copyToHostTensor(logits)
            result: Array = logits.getNumpyData().copy()
            return result

        run()
        return run

    def _session(self, interpreter: Any) -> Any:
        with redirected(STDOUT, STDERR):
            return interpreter.createSession({"numThread": self.threads, "backend": "CPU"})


def _load(model: bytes) -> Any:
    """Return the interpreter of a file, which MNN reads from a path alone."""
    engine = _engine()
    with tempfile.NamedTemporaryFile(prefix="netsmith-", suffix=".mnn") as file:
        file.write(model)
        file.flush()
        try:
            with redirected(STDOUT, STDERR):
                return engine.Interpreter(file.name)
        except Exception as error:  # of no class of its own
            raise DeviceError(f"MNN cannot load this file: {error}") from None


def _engine() -> Any:
    try:
        with redirected(STDOUT, STDERR):
            import _mnncengine  # the package around it loads far more, and reports its use
    except ImportError:
        raise MissingExtraError("MNN", "mnn", "the device 'mnn'") from None
    return _mnncengine
