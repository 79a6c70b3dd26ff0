"""How fast the device is when nothing disturbs it: what all figures of one machine are given as of."""

from __future__ import annotations

from netsmith.devices.bench import Bench
from netsmith.devices.device import Device
from netsmith.latency.cache import TableCache
from netsmith.pipeline.tabled import TableDevice

# A second's calibration varies by a few per cent from start to start.
NOTABLE = 1.08
# The seconds of a device of which nothing is known yet: on a shared machine one of them is often slowed,
# by 1.4 and more, and hardly ever all.
FIRST_CALIBRATIONS = 5


def calibrated(device: Device) -> tuple[Bench, str]:
    """Return a bench at the best speed known of ``device``, and a warning where it is slower now, or "".

    A bench calibrates itself in a second, and on a machine that is slowed at that moment all its figures
    would be too large alike. The user's latency table remembers the reference network at its fastest: that
    is the undisturbed speed.
    """
    if isinstance(device, TableDevice):  # what is looked up does not drift
        return Bench(device, reference_ms=1.0), ""
    cache = TableCache()
    table = cache.load(device.fingerprint())
    tries = FIRST_CALIBRATIONS if table is None else 1
    bench = min((Bench(device) for _ in range(tries)), key=lambda bench: bench.reference_ms)
    if table is None:
        return bench, ""
    if table.reference_ms >= bench.reference_ms:
        cache.save(table.scaled_to(bench.reference_ms))
        return bench, ""
    slower = bench.reference_ms / table.reference_ms
    warning = (
        f"{device.name} is {slower:.2f} times slower now than it was once; latencies are given as of then. "
        f"Where it is slower for good, delete {cache.path(device.fingerprint())}"
    )
    return Bench(device, reference_ms=table.reference_ms), warning if slower > NOTABLE else ""
