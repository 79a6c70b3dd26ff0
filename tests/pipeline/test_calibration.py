"""Figures are given as of the machine's best known speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsmith.devices.bench import Bench
from netsmith.latency.cache import TableCache
from netsmith.latency.table import LatencyTable
from netsmith.pipeline.calibration import calibrated
from netsmith.testing import FakeDevice

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("share", "used", "warned"), [(0.5, 0.5, True), (0.97, 0.97, False), (2.0, 1.0, False)]
)
def test_the_best_known_speed_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, used: float, warned: bool
) -> None:
    monkeypatch.setenv("NETSMITH_CACHE", str(tmp_path))
    device = FakeDevice()
    fresh = Bench(device).reference_ms
    TableCache().save(LatencyTable(device.fingerprint(), share * fresh))
    bench, warning = calibrated(device)
    assert bench.reference_ms == pytest.approx(used * fresh, rel=1e-6)
    assert bool(warning) == warned
    assert not warned or "2.00 times slower" in warning
    remembered = TableCache().load(device.fingerprint())
    assert remembered is not None
    assert remembered.reference_ms == pytest.approx(used * fresh, rel=1e-6)


def test_without_a_table_it_is_the_fastest_of_several_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETSMITH_CACHE", str(tmp_path))
    device = FakeDevice()
    undisturbed = Bench(device).reference_ms
    slowed = iter((1.4, 1.3, 1.0, 1.5, 1.2))

    def disturbed(device: FakeDevice) -> Bench:
        return Bench(device, reference_ms=next(slowed) * undisturbed)

    monkeypatch.setattr("netsmith.pipeline.calibration.Bench", disturbed)
    bench, warning = calibrated(device)
    assert bench.reference_ms == undisturbed
    assert not warning
