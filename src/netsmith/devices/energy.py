"""Energy of a pass, where the machine counts it: by Linux's powercap (RAPL) or a GPU's NVML.

What is counted is the whole processor package, idle cores and other programs among it, or the whole GPU, so
figures compare on one quiet machine only. Reading the counters of a processor usually needs to be root.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

_POWERCAP = Path("/sys/class/powercap")
_LEAST_S = 1.0


class Counter(Protocol):
    """Something that counts energy."""

    def joules(self) -> float:
        """Return the joules since the counter was made."""


class PackageCounter:
    """The joules that some packages have used; each counter starts again from 0 after its range."""

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._ranges = [int((path / "max_energy_range_uj").read_text()) for path in packages]
        self._last = self._read()
        self._used_uj = 0

    def joules(self) -> float:
        """Return the joules since the counter was made; ask at least once in the range of a counter."""
        now = self._read()
        self._used_uj += sum(
            (new - old) % (span + 1) for new, old, span in zip(now, self._last, self._ranges, strict=True)
        )
        self._last = now
        return self._used_uj / 1e6

    def _read(self) -> list[int]:
        return [int((path / "energy_uj").read_text()) for path in self._packages]


class GpuCounter:
    """The joules that a GPU has used, by the library ``nvml`` (the module pynvml) and its handle."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._first_mj = int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))

    def joules(self) -> float:
        """Return the joules since the counter was made."""
        return (int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) - self._first_mj) / 1e3


def find_counter(root: Path = _POWERCAP) -> PackageCounter | None:
    """Return the counter of this machine's processor packages; None where there is none to be read."""
    try:
        return PackageCounter(_packages(root)) if _packages(root) else None
    except (OSError, ValueError):  # not there, or not for this user
        return None


def find_gpu_counter(uuid: str) -> GpuCounter | None:
    """Return the counter of a GPU; None without the package nvidia-ml-py, or where it counts nothing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return GpuCounter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:  # no driver, no such GPU, or one older than the counter
        return None


def _packages(root: Path) -> list[Path]:
    """The folders of whole packages, such as ``intel-rapl:0``; those below are parts of them."""
    return [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]


def millijoules_a_pass(
    run: Callable[[], object], counter: Counter, clock: Callable[[], float] = time.monotonic
) -> float:
    """Return the mean energy of a pass over a second of them, in millijoules."""
    before, end, passes = counter.joules(), clock() + _LEAST_S, 0
    while clock() < end:
        run()
        passes += 1
    return 1e3 * (counter.joules() - before) / max(1, passes)
