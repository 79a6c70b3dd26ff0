"""Where a training runs: device, precision and processes, through Accelerate.

Several GPUs: start the same program with ``torchrun --nproc-per-node N``. ``ACCELERATE_USE_CPU=1`` keeps a
training on the processor of a machine that has a GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from netsmith.errors import SettingsError

if TYPE_CHECKING:
    from accelerate import Accelerator

_THREAD_ROUNDS = 16
# How many times faster one thread must be than all to be chosen: the choice is for the whole design, and a
# neighbour that is busy for these seconds slows all more than one.
_ONE_THREAD_GAIN = 1.2
_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(precision: str) -> Accelerator:
    """Return an accelerator for this process in "fp32", "bf16" or "fp16" (with its loss scaler).

    Raises :class:`SettingsError` where the device cannot compute in that precision.
    """
    # Imported here: it takes longer than everything else in this package together.
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate allows one precision a process; one process may train several networks, each in its own.
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(mixed_precision=_NAMES[precision])
    except ValueError as error:
        raise SettingsError(f"this device cannot train in {precision}: {error}; use fp32") from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise SettingsError("fp16 training needs a GPU, and this is a processor; use fp32 or bf16")
    return accelerator


def fastest_threads(step: Callable[[], None], most: int) -> int:
    """Return ``most``, or 1 where ``step`` takes clearly less time so.

    On a machine that others use too, a step over two threads waits at each of its hundreds of barriers
    for the thread that was put off, and can take ten times as long as over one. PyTorch's setting is left as
    it was.
    """
    before, times = torch.get_num_threads(), dict[int, list[float]]()
    try:
        for _ in range(_THREAD_ROUNDS):
            for threads in sorted({1, most}):
                torch.set_num_threads(threads)
                started = time.perf_counter()
                step()
                times.setdefault(threads, []).append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    # The first round compiles and allocates.
    taken = {threads: statistics.median(values[1:]) for threads, values in times.items()}
    return 1 if taken[1] * _ONE_THREAD_GAIN < taken[most] else most


def fastest_precision() -> str:
    """Return the precision in which this machine trains fastest: "bf16" on a GPU that has it, else "fp32".

    On processors bf16 gains nothing in the channels-last layout, so there it is only by request.
    """
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(False) else "fp32"


def place(module: nn.Module, device: torch.device) -> nn.Module:
    """Move ``module`` to ``device`` in place, its filters laid out channels-last; return it."""
    module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module
