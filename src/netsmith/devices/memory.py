"""What an exported file needs besides time: memory, storage, time to load, and energy.

Memory is that of a fresh process which loads the file and runs it, over what the same process held
with the runtime imported and nothing loaded.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from netsmith.devices.device import Device, parse
from netsmith.devices.energy import Counter, millijoules_a_pass
from netsmith.errors import DeviceError

_PASSES = 3
_LIMIT_S = 120.0


class Runtime(Device, Protocol):
    """A device whose files run in a process of this machine."""

    def start(self) -> None:
        """Import the runtime, and take what a process holds of it before its first file."""

    def held_bytes(self) -> int:
        """Return the most bytes that this process has held beside its own memory, on a GPU say."""

    def energy_counter(self) -> Counter | None:
        """Return what counts the energy of a pass here; None where nothing does."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes and milliseconds of one exported file; ``peak_bytes`` is over the idle runtime.

    ``energy_mj`` is of one pass, in millijoules of the whole processor; None where nothing counts it.
    """

    peak_bytes: int
    size_bytes: int
    load_ms: float
    energy_mj: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return asdict(self)

    @classmethod
    def of(cls, model: bytes, figures: Mapping[str, Any]) -> Footprint:
        """Return the footprint of ``model`` by the figures of the process that ran it."""
        energy = figures["energy_mj"]
        return cls(
            int(figures["peak_bytes"]),
            len(model),
            float(figures["load_ms"]),
            None if energy is None else float(energy),
        )


def footprint_here(device: Device, model: bytes) -> Footprint:
    """Load and run ``model`` on one image in a process of its own, and return what it took.

    Raises :class:`DeviceError` where that process fails; its last words are in the message.
    """
    shape, input_type = device.input_of(model)
    with tempfile.TemporaryDirectory(prefix="netsmith-") as folder:
        path = Path(folder) / f"model{device.suffix}"
        path.write_bytes(model)
        arguments = [device.name, str(path), ",".join(map(str, shape)), input_type]
        command = [sys.executable, "-m", "netsmith.devices.memory", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"measuring memory on '{device.name}' took over {_LIMIT_S:.0f} s and was stopped"
            ) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"measuring memory on '{device.name}' failed with status {done.returncode}: {last}")
    return Footprint.of(model, json.loads(done.stdout))


def _peak_bytes() -> int:
    """The most memory that this process has held, in bytes.

    VmHWM is of this program alone; ru_maxrss, the fallback, starts at what the parent process held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _idle_bytes() -> int:
    """What this process holds now; from here on :func:`_peak_bytes` counts only what comes, where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing
    return _peak_bytes()


def main(arguments: list[str]) -> None:
    """Print the figures of one file, given device, path, input shape and type; runs in its own process."""
    name, path, shape, input_type = arguments
    device = cast(Runtime, parse(name))
    device.start()
    x = np.zeros((1, *map(int, shape.split(","))), dtype=np.dtype(input_type))
    model = Path(path).read_bytes()
    idle = _idle_bytes() + device.held_bytes()
    start = device.clock()
    run = device.prepare(model, x)
    loaded = device.clock()
    for _ in range(_PASSES):
        run()
    peak_bytes, counter = max(0, _peak_bytes() + device.held_bytes() - idle), device.energy_counter()
    energy_mj = None if counter is None else millijoules_a_pass(run, counter)
    print(json.dumps({"peak_bytes": peak_bytes, "load_ms": (loaded - start) / 1e6, "energy_mj": energy_mj}))


if __name__ == "__main__":
    main(sys.argv[1:])
