"""ExecuTorch, with its XNNPACK kernels, on this processor.

Its runtime checks only the outline of a file, and damage within may end the process; the files written here
therefore carry a checksum. One that was made to do harm has none, or its own: an agent runs each file in a
process of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata as packages
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netsmith.devices.device import Array, InputType, Layout, Run
from netsmith.devices.local import LocalRuntime
from netsmith.devices.quiet import without_stderr
from netsmith.errors import DeviceError, MissingExtraError
from netsmith.export.seal import is_broken

if TYPE_CHECKING:
    from torch import nn

_METHOD = "forward"
_KINDS: dict[int, InputType] = {0: "uint8", 6: "float32"}  # by ExecuTorch's numbers of types


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class _Pass:
    """A method of a loaded file and its images, in parts that it takes at once."""

    model: bytes  # which the program reads for as long as it is
    program: Any
    method: Any
    parts: tuple[Any, ...]

    def __call__(self) -> Array:
        outputs: list[Array] = [self.method([part])[0].numpy() for part in self.parts]
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


_loaded: weakref.WeakSet[_Pass] = weakref.WeakSet()
"""The passes that are prepared, which hold on to the one pool of threads that a process has."""


@dataclass(frozen=True, slots=True)
class ExecuTorch(LocalRuntime):
    """ExecuTorch's runtime.

    It has one pool of threads a process, so that files with another number of threads can be loaded only when
    no other file is. A pass over more images than a file takes at once runs them in turn.
    """

    runtime = "executorch"
    suffix: ClassVar[str] = ".pte"
    layout: ClassVar[Layout] = "NCHW"

    def version(self) -> str:
        """Return the version of the installed runtime."""
        _runtime()  # what memory a file takes is told from what its runtime takes
        return packages.version("executorch")

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
        """Write an ExecuTorch file. Raises :class:`netsmith.errors.ExportError` where that cannot be done."""
        from netsmith.export.executorch import write_executorch
        from netsmith.export.onnx import to_onnx

        model = to_onnx(
            module,
            input_shape,
            input_type=input_type,
            precision=self.precision,
            calibration=calibration,
            floating=floating,
            select=False,  # XNNPACK has no Gather
        )
        return write_executorch(model, metadata)

    def input_of(self, model: bytes) -> tuple[tuple[int, int, int], InputType]:
        """Return the shape (C, H, W) and type of the images that an ExecuTorch file takes."""
        (_, *shape), input_type = _input_of(_program(model))
        return (shape[0], shape[1], shape[2]), input_type

    def prepare(self, model: bytes, x: Array) -> Run:
        """Load an ExecuTorch file and return a pass over ``x``, (N, C, H, W)."""
        import torch

        program = _program(model)
        (most, *shape), input_type = _input_of(program)
        if x.ndim != 4 or list(x.shape[1:]) != shape or x.dtype != np.dtype(input_type):
            wanted = "(N, {}, {}, {})".format(*shape)
            raise DeviceError(
                f"this ExecuTorch file takes {wanted} of {input_type}; got {x.shape} of {x.dtype}"
            )
        self._claim_threads()
        images = torch.split(torch.from_numpy(np.ascontiguousarray(x)), most)
        try:
            run = _Pass(model, program, program.load_method(_METHOD), images)
            run()
        except (RuntimeError, AttributeError, IndexError) as error:
            raise DeviceError(
                f"ExecuTorch cannot run this file on input {x.shape} of {x.dtype}: {error}"
            ) from None
        _loaded.add(run)
        return run

    def _claim_threads(self) -> None:
        """Give the process as many threads as this device has."""
        runtime = _runtime()
        with without_stderr():  # where it says at its first call that it could not tell the processor's cores
            present = runtime._threadpool_get_thread_count()
        if present == self.threads:
            return
        if _loaded:
            raise DeviceError(
                f"ExecuTorch has one number of threads a process, and files are loaded with {present}: use "
                f"'{self.name}' after them, not beside them"
            )
        with without_stderr():
            runtime._unsafe_reset_threadpool(self.threads)


def _program(model: bytes) -> Any:
    """Return the program of a file, its outline verified."""
    runtime = _runtime()
    if model[4:6] != b"ET":
        raise DeviceError("this is not an ExecuTorch file: it does not say so at its beginning")
    if is_broken(model):
        raise DeviceError("this ExecuTorch file is damaged: its checksum is another")
    try:
        return runtime._load_program_from_buffer(
            model, program_verification=runtime.Verification.InternalConsistency
        )
    except RuntimeError as error:
        raise DeviceError(f"ExecuTorch cannot load this file: {error}") from None


def _input_of(program: Any) -> tuple[tuple[int, ...], InputType]:
    """Return the sizes (N, C, H, W), N the most that it takes at once, and type of a program's images."""
    try:
        about = program.method_meta(_METHOD)
        inputs = [about.input_tensor_meta(i) for i in range(about.num_inputs())]
    except RuntimeError as error:
        raise DeviceError(f"ExecuTorch cannot load this file: {error}") from None
    if len(inputs) != 1 or len(inputs[0].sizes()) != 4 or inputs[0].dtype() not in _KINDS:
        found = [(tensor.sizes(), tensor.dtype()) for tensor in inputs]
        raise DeviceError(f"one input of images (N, C, H, W), float32 or uint8, is needed; this has {found}")
    return tuple(inputs[0].sizes()), _KINDS[inputs[0].dtype()]


def _runtime() -> Any:
    import torch  # noqa: F401, which the runtime's module is linked with

    try:
        from executorch.extension.pybindings import _C  # the package around it loads the writer too
    except ImportError:
        raise MissingExtraError("executorch", "executorch", "the device 'executorch'") from None
    return _C
