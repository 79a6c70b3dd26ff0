"""What a training process on a CPU should set, and when the compiled kernels may be used."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TypeVar

import torch
from torch import nn

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_TOP_PAD_BYTES = 64 << 20

Module = TypeVar("Module", bound=nn.Module)


@cache
def keep_memory() -> bool:
    """Have the C library keep freed memory instead of returning it to the system; say whether it will.

    A training step frees and takes the same buffers again. Left alone, glibc gives each large one back,
    and the kernel clears every page anew: a third of a step. Call once, before training; the process
    then stays at its peak size. Does nothing on C libraries without these settings.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other libraries have a mallopt that means less
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    never = 2**31 - 1
    settings = ((_M_MMAP_THRESHOLD, never), (_M_TRIM_THRESHOLD, never), (_M_TOP_PAD, _TOP_PAD_BYTES))
    done = [mallopt(option, value) == 1 for option, value in settings]
    return all(done)


def channels_last(module: Module) -> Module:
    """Give a module's convolutions their channels innermost, in place, and return it."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def takes_kernels(x: torch.Tensor) -> bool:
    """Whether ``x`` is a batch that the compiled kernels can take: plain float32 on a CPU, channels last.

    Whatever traces, exports, counts, transforms or autocasts must see PyTorch's own operations.
    """
    return (
        type(x) is torch.Tensor
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[1] >= 16
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and _can_launch()
    )


def pointer(tensor: torch.Tensor | None) -> int:
    """Return the address of the first value, 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


@cache
def _can_launch() -> bool:
    from netsmith.nn.kernels.launch import can_launch

    return can_launch()
