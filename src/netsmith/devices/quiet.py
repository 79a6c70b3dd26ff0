"""Keeping what libraries print from where it does not belong."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT, STDERR = 1, 2


@contextmanager
def redirected(descriptor: int, target: int) -> Iterator[None]:
    """Have what this process writes to one file descriptor go to another meanwhile, C libraries too."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(descriptor)
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has buffered
        os.dup2(kept, descriptor)
        os.close(kept)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what is written to standard error meanwhile."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with redirected(STDERR, nowhere):
            yield
    finally:
        os.close(nowhere)
