"""What every kernel begins with: reading its arguments and its place among the threads."""

from __future__ import annotations

from typing import Any

from numba import njit, types

from netsmith.nn.kernels.simd import BYTES, call_int, load_double, load_int, splat, store

# The header that launch() puts before the arguments: three addresses of functions of OpenMP.
HEADER = 3


@njit(inline="always")
def argument(words: int, index: int) -> Any:
    """Return integer argument ``index``."""
    return load_int(words + 8 * (index + HEADER))


@njit(inline="always")
def number(words: int, index: int) -> Any:
    """Return argument ``index``, the bits of a double, as that double."""
    return load_double(words + 8 * (index + HEADER))


@njit(inline="always")
def team(words: int) -> tuple[Any, Any]:
    """Return this thread's number, and how many threads there are."""
    return call_int(load_int(words)), call_int(load_int(words + 8))


@njit(inline="always")
def barrier(words: int) -> None:
    """Wait for every thread of the team."""
    call_int(load_int(words + 16))


@njit
def zero(address: int, vectors: int) -> None:
    """Set ``vectors`` vectors to zero."""
    nothing = splat(types.float32(0.0))
    for i in range(vectors):
        store(address + i * BYTES, nothing)
