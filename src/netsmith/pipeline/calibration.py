"""How fast the device is when nothing disturbs it: what all figures of one machine are given as of."""

from __future__ import annotations

from netsmith.devices.bench import Bench
from netsmith.devices.device import Device
from netsmith.latency.cache import TableCache

# A second's calibration varies by a few per cent from start to start.
NOTABLE = 1.08


def calibrated(device: Device) -> tuple[Bench, str]:
    """Return a bench at the best speed known of ``device``, and a warning where it is slower now, or "".

    A bench calibrates itself in a second, and on a machine that is slowed at that moment all its figures
    would be too large alike. Where the reference network was faster when the user's latency table was made,
    that is its undisturbed speed.
    """
    bench = Bench(device)
    table = TableCache().load(device.fingerprint())
    if table is None or table.reference_ms >= bench.reference_ms:
        return bench, ""
    slower = bench.reference_ms / table.reference_ms
    warning = (
        f"{device.name} is {slower:.2f} times slower now than when its latency table was made; latencies are "
        "given as of then"
    )
    return Bench(device, reference_ms=table.reference_ms), warning if slower > NOTABLE else ""
