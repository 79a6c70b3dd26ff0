"""Running a compiled kernel on the threads that PyTorch itself computes with.

Numba's own pool beside PyTorch's would have both spin on the same cores. The kernels are entered
through the OpenMP library that PyTorch has loaded instead, so there is one pool, with as many threads
as ``torch.set_num_threads`` says, and forked processes are as safe as PyTorch's own operations.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch

_HEADER = 3  # words before a kernel's own arguments: the addresses of thread number, count and barrier


@cache
def _openmp() -> tuple[Any, tuple[int, ...]] | None:
    """GOMP_parallel and the addresses of the header, or None where PyTorch has no such library."""
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            library = ctypes.CDLL(str(folder / name))
            parallel = library.GOMP_parallel
            asked = library.omp_get_thread_num, library.omp_get_num_threads, library.GOMP_barrier
            if library.omp_get_dynamic() or library.omp_get_thread_limit() < torch.get_num_threads():
                return None  # then a kernel could get fewer threads than it was given room for
        except (OSError, AttributeError):
            continue
        parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel.restype = None
        return parallel, tuple(ctypes.cast(f, ctypes.c_void_p).value or 0 for f in asked)
    return None


def can_launch() -> bool:
    """Whether this PyTorch's threads can be borrowed (any Linux build; not macOS or Windows)."""
    return _openmp() is not None


def launch(kernel: int, threads: int, *arguments: int) -> None:
    """Run the kernel at address ``kernel`` on ``threads`` threads with these integers as arguments."""
    openmp = _openmp()
    if openmp is None:
        raise RuntimeError("PyTorch's OpenMP library was not found; ask can_launch() first")
    parallel, header = openmp
    words = (ctypes.c_longlong * (_HEADER + len(arguments)))(*header, *arguments)
    parallel(kernel, words, threads, 0)
