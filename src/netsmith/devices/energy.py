"""Energy of a pass, where the machine counts it: Linux's powercap counters (RAPL) of the processor.

What is counted is the whole processor package, idle cores and other programs among it, so figures compare on
one quiet machine only. Reading the counters usually needs to be root.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
_LEAST_S = 1.0


class EnergyCounter:
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


def find_counter(root: Path = _POWERCAP) -> EnergyCounter | None:
    """Return the counter of this machine's processor packages; None where there is none to be read."""
    try:
        return EnergyCounter(_packages(root)) if _packages(root) else None
    except (OSError, ValueError):  # not there, or not for this user
        return None


def _packages(root: Path) -> list[Path]:
    """The folders of whole packages, such as ``intel-rapl:0``; those below are parts of them."""
    return [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]


def millijoules_a_pass(
    run: Callable[[], object], counter: EnergyCounter, clock: Callable[[], float] = time.monotonic
) -> float:
    """Return the mean energy of a pass over a second of them, in millijoules."""
    before, end, passes = counter.joules(), clock() + _LEAST_S, 0
    while clock() < end:
        run()
        passes += 1
    return 1e3 * (counter.joules() - before) / max(1, passes)
