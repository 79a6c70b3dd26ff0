"""One search for two devices of opposite taste gives each the network that is fast there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netsmith.errors import FolderError, SettingsError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import command_of, run
from netsmith.pipeline.folder import agrees
from netsmith.pipeline.searching import several
from netsmith.pipeline.searching.several import run_several
from netsmith.pipeline.settings import Settings, merge, read_toml, to_toml
from netsmith.testing import FakeDevice

DEVICES = ("fake:likes=3", "fake:likes=7")
Make = Callable[..., Settings]


def asked(small: Make, **changes: Any) -> list[Settings]:
    limits = {DEVICES[0]: "0.06ms", DEVICES[1]: "0.05ms"}
    return [small(device=device, latency=limit, width=None, **changes) for device, limit in limits.items()]


@pytest.fixture(scope="module")
def both(small: Make, tmp_path_factory: pytest.TempPathFactory) -> list[Design]:
    return run_several(asked(small), tmp_path_factory.mktemp("several") / "out")


def kernels(design: Design) -> list[int]:
    plan = json.loads((design.folder / "arch.json").read_text())["plan"]
    return [block["kernel"] for block in plan if block["op"] == "mbconv"]


def test_each_device_gets_a_network_of_its_own_within_its_budget(both: list[Design]) -> None:
    first, second = both
    assert [design.result["device"] for design in both] == list(DEVICES)
    assert first.budget_met
    assert second.budget_met
    assert first.result["space"] == second.result["space"]
    assert sum(kernels(first)) / len(kernels(first)) < sum(kernels(second)) / len(kernels(second))


def test_every_network_is_measured_on_every_device(both: list[Design]) -> None:
    for design in both:
        cells = {(c["network"], c["device"]): c for c in design.result["matrix"]}
        assert list(cells) == [(network, device) for network in DEVICES for device in DEVICES]
        for device, owner in zip(DEVICES, both, strict=True):
            own = cells[device, device]
            assert own["accuracy_exported"] == owner.result["accuracy_exported"]
            for on, likes in zip(DEVICES, "37", strict=True):
                cost_ms = FakeDevice(likes).cost_ms(owner.exported.read_bytes())
                assert cells[device, on]["latency_ms"] == pytest.approx(cost_ms, rel=1e-3)
        for device in DEVICES:
            column = {network: cells[network, device]["latency_ms"] for network in DEVICES}
            assert min(column, key=column.__getitem__) == device, "specialisation pays on its own device"


def test_the_reports_show_it(both: list[Design]) -> None:
    for design in both:
        page = (design.folder / "report.html").read_text()
        assert 'id="matrix"' in page
        assert page.count("the fastest here</span>") == 2


def test_the_command_repeats_both(both: list[Design], small: Make) -> None:
    out = both[0].folder.parent
    assert merge(read_toml(out / "design.toml"), {}) == asked(small)
    assert all(f"--config {out / 'design.toml'}" in design.result["command"] for design in both)
    command = command_of([replace(settings, stages=None) for settings in asked(small)], out)
    assert "--device fake:likes=3 --device fake:likes=7" in command
    assert "--latency fake:likes=3=0.06ms,fake:likes=7=0.05ms" in command


def test_stopped_between_the_two_it_goes_on_to_the_same_answers(
    both: list[Design], small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, told = several.answer, []

    def stopped(quest: Any, search: Any, number: int) -> None:
        if number == 1 and not told:
            told.append(number)
            raise KeyboardInterrupt
        answer(quest, search, number)

    monkeypatch.setattr(several, "answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_several(asked(small), tmp_path)
    again = run_several(asked(small), tmp_path)
    for ours, theirs in zip(again, both, strict=True):
        assert ours.arch == theirs.arch
        assert ours.result["accuracy"] == theirs.result["accuracy"]
    read = run_several(asked(small), tmp_path)
    assert [design.result for design in read] == [design.result for design in again]


def test_a_folder_of_other_devices_is_left_alone(
    both: list[Design], finished: Design, small: Make, tmp_path: Path
) -> None:
    out = both[0].folder.parent
    before = (out / "design.toml").read_bytes()
    with pytest.raises(FolderError, match="holds another design; these settings differ: device: "):
        run_several([*asked(small)[:1], small(device="onnxruntime", latency="1ms")], out)
    with pytest.raises(FolderError, match="holds another design"):
        run(asked(small)[0], out)
    assert (out / "design.toml").read_bytes() == before
    with pytest.raises(FolderError, match="holds another design"):
        run_several(asked(small), finished.folder)


def test_devices_whose_spaces_differ_are_refused_before_anything_is_profiled(
    small: Make, tmp_path: Path
) -> None:
    devices = ("onnxruntime", "onnxruntime:precision=int8")
    limited = [small(device=device, latency="9ms", activations=9000) for device in devices]
    with pytest.raises(SettingsError, match="cannot share a search"):
        run_several(limited, tmp_path)
    events = {r["event"] for journal in tmp_path.glob("*/journal") for r in read(journal)}
    assert "profile" not in events


def test_a_device_twice_is_an_error(small: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="given twice: fake:likes=3"):
        run_several([small(device="fake"), small(device="fake:likes=3")], tmp_path)


def test_limits_given_as_numbers_are_known_again(small: Make, tmp_path: Path) -> None:
    """In the file of several devices they are text, since each device has its own."""
    asked = [small(device="fake", latency=0.06), small(device="fake:likes=7", latency=0.07)]
    assert not agrees(tmp_path, asked)
    (tmp_path / "design.toml").write_text(to_toml(asked))
    assert agrees(tmp_path, asked)
    with pytest.raises(FolderError, match="holds another design; these settings differ: latency"):
        agrees(tmp_path, [asked[0], small(device="fake:likes=7", latency=0.08)])
