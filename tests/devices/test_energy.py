"""Energy from counters of known values: what they add up to, where they start again, where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsmith.devices.energy import PackageCounter, find_counter, millijoules_a_pass

RANGE_UJ = 9_999_999


class Machine:
    """Packages that use so many microjoules at every pass, and a clock that a pass moves by 10 ms."""

    def __init__(self, root: Path, *a_pass_uj: int) -> None:
        self.packages = [root / f"intel-rapl:{i}" for i in range(len(a_pass_uj))]
        self.a_pass_uj, self.now = a_pass_uj, 0.0
        for path in self.packages:
            path.mkdir(parents=True)
            (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
            (path / "energy_uj").write_text(f"{RANGE_UJ - 1000}\n")
        part = root / "intel-rapl:0:0"  # a part of the package, which must not count twice
        part.mkdir()
        (part / "max_energy_range_uj").write_text("1\n")
        (part / "energy_uj").write_text("1\n")

    def run(self) -> None:
        self.now += 0.01
        for path, used in zip(self.packages, self.a_pass_uj, strict=True):
            file = path / "energy_uj"
            file.write_text(f"{(int(file.read_text()) + used) % (RANGE_UJ + 1)}\n")


def test_a_pass_takes_what_all_packages_used_though_counters_start_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 3000, 500)
    counter = find_counter(tmp_path)
    assert counter is not None
    assert millijoules_a_pass(machine.run, counter, lambda: machine.now) == pytest.approx(3.5)


def test_joules_add_up_between_readings(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 2_000_000)
    counter = PackageCounter(machine.packages)
    readings = []
    for _ in range(9):  # beyond the range of the counter
        machine.run()
        readings.append(counter.joules())
    assert readings == pytest.approx([2.0 * (i + 1) for i in range(9)])


def test_a_machine_without_readable_counters_has_none(tmp_path: Path) -> None:
    assert find_counter(tmp_path / "nowhere") is None
    assert find_counter(tmp_path) is None
    Machine(tmp_path, 1).packages[0].joinpath("energy_uj").write_text("secret")
    assert find_counter(tmp_path) is None
