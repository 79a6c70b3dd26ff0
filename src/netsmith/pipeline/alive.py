"""Which process a worker is, and whether it is still there: told of processes of this machine alone."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def this_worker() -> str:
    """Return the machine's name, then what tells one process of one start of one machine from all others."""
    return f"{platform.node()} {_place()} {os.getpid()} {_started(os.getpid())}"


def is_dead(worker: object) -> bool:
    """Whether a worker was a process of this machine, and is no more; False where that cannot be known."""
    try:
        place, process, started = str(worker).rsplit(" ", 3)[1:]
        return place == _place() != "elsewhere" and _started(int(process)) != started
    except ValueError:
        return False


def _place() -> str:
    """Return this start of this machine and its space of process numbers, where the system tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "elsewhere"


def _started(process: int) -> str:
    """Return when a process started, in ticks since the machine did; "none" where there is none (proc(5))."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "none"
    fields = stat.rpartition(")")[2].split()
    return "none" if fields[0] in "ZX" else fields[19]
