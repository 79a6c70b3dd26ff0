"""A profile finds known costs, goes on where it was killed, and measures nothing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from netsmith.costs import bent
from netsmith.devices.bench import Bench
from netsmith.errors import TableError
from netsmith.latency.cache import TableCache
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.latency.table import LatencyTable, network_key
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.spaces.routed import routed
from netsmith.testing import FakeDevice

pytest.importorskip("onnxruntime")

STAGES = [Stage(8, 2, 1), Stage(16, 3, 2)]
FEW = {"fit_networks": 10, "heldout_networks": 6}


def _space(width: float = 1.0) -> ChainSpace:
    return mbconv((1, 8, 8), 4, stages=STAGES, width=width)


class _Counting(Bench):
    """Notes what it times, and may be killed."""

    def __init__(self, device: FakeDevice, kill_after: int | None = None) -> None:
        super().__init__(device)
        self.timed: list[str] = []
        self.groups = 0
        self._kill_after = kill_after

    def time(self, subjects: Mapping[str, Any], **options: Any) -> Any:
        self.groups += 1
        if self._kill_after is not None and self.groups > self._kill_after:
            raise KeyboardInterrupt
        self.timed += subjects
        return super().time(subjects, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatencyModel:
    store = TableCache(tmp_path_factory.mktemp("cache"))
    return profile(_space(), Bench(FakeDevice("7")), store=store, **FEW)


def test_predictions_equal_what_networks_cost(model: LatencyModel) -> None:
    device, space = FakeDevice("7"), _space()
    for seed in range(5):
        plan = space.plan(space.sample(Random(seed)))
        cost = device.cost_ms(device.export(Network(plan).eval(), plan.input_shape))
        assert model.predict(plan) == pytest.approx(cost, rel=1e-3)
    assert model.heldout.error < 1e-3
    assert len(model.heldout.measured_ms) == 6


def test_costs_add_up_to_predictions(model: LatencyModel) -> None:
    space = _space()
    constant, edges, bend = model.costs(space)
    assert [len(row) for row in edges] == [len(options) for options in space.edges]
    for seed in range(20):
        arch = space.sample(Random(seed))
        total = constant + sum(row[choice] for row, choice in zip(edges, arch.choices, strict=True))
        assert bent(total, bend) == pytest.approx(model.predict(space.plan(arch)), rel=1e-12)
    assert edges[-1][-1] == 0.0  # the skip


def test_a_model_survives_json(model: LatencyModel) -> None:
    again = LatencyModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    with pytest.raises(TableError, match="version"):
        LatencyModel.from_dict({})
    with pytest.raises(TableError, match="damaged"):
        LatencyModel.from_dict({"version": 2})


def test_blocks_that_were_not_measured_are_named(model: LatencyModel) -> None:
    with pytest.raises(TableError, match="Profile the device for this space"):
        model.costs(_space(2.0))
    plan = Plan((Block("head", 9, 4, 8, 8, hidden=64),))
    assert model.try_predict(plan) is None
    with pytest.raises(TableError, match="no block head:9x8x8-4h64"):
        model.predict(plan)


def test_extra_blocks_let_other_networks_be_predicted(tmp_path: Path) -> None:
    plan = Plan((Block("conv", 1, 8, 8, 8, kernel=3), Block("head", 8, 4, 8, 8, hidden=32)))
    device = FakeDevice()
    made = profile(_space(), Bench(device), extra=plan.blocks, store=TableCache(tmp_path), **FEW)
    cost = device.cost_ms(device.export(Network(plan).eval(), plan.input_shape))
    assert made.try_predict(plan) == pytest.approx(cost, rel=1e-2)


def test_a_killed_profile_goes_on_and_ends_alike(model: LatencyModel, tmp_path: Path) -> None:
    store, space = TableCache(tmp_path), _space()
    killed = _Counting(FakeDevice("7"), kill_after=1)
    with pytest.raises(KeyboardInterrupt):
        profile(space, killed, store=store, **FEW)
    progress: list[tuple[float, float, str]] = []
    again = _Counting(FakeDevice("7"))
    ended = profile(space, again, store=store, on_progress=lambda *step: progress.append(step), **FEW)
    assert killed.timed
    assert not set(killed.timed) & set(again.timed)
    assert ended.predict(Plan(space.plan(space.sample(Random(0))).blocks)) == pytest.approx(
        model.predict(space.plan(space.sample(Random(0)))), rel=1e-6
    )
    assert progress[-1][0] == progress[-1][1] == len(again.timed)
    third = _Counting(FakeDevice("7"))
    assert profile(space, third, store=store, **FEW) == ended
    assert set(third.timed) < set(ended.table.networks)


@pytest.mark.parametrize(("share", "again"), [(0.8, True), (1.25, True), (0.95, False)])
def test_a_table_of_a_machine_that_has_changed_is_measured_again(
    model: LatencyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float, again: bool
) -> None:
    store, space = TableCache(tmp_path), _space()
    true = model.table
    old = true.scaled_to(share * true.reference_ms)
    store.save(replace(old, reference_ms=true.reference_ms))
    bench = _Counting(FakeDevice("7"))
    found = profile(space, bench, store=store, **FEW)
    plan = space.plan(space.sample(Random(0)))
    assert found.predict(plan) == pytest.approx(model.predict(plan) * (1 if again else share), rel=1e-3)
    assert ({block.key for block in space.blocks} & set(bench.timed) != set()) == again
    assert ("measured again" in caplog.text) == again


def test_a_changed_space_measures_only_its_new_blocks(tmp_path: Path) -> None:
    store = TableCache(tmp_path)
    profile(_space(), Bench(FakeDevice()), store=store, **FEW)
    known = store.load(FakeDevice().fingerprint())
    wider = mbconv((1, 8, 8), 4, stages=STAGES, kernels=(3, 5, 7, 9))
    bench = _Counting(FakeDevice())
    profile(wider, bench, store=store, **FEW)
    assert known is not None
    new = {block.key for block in known.missing(wider.blocks)}
    assert all(":k9" in key for key in new)
    assert {key for key in bench.timed if key in {b.key for b in wider.blocks}} == new


def test_what_else_the_cache_holds_changes_nothing(model: LatencyModel, tmp_path: Path) -> None:
    store = TableCache(tmp_path)
    profile(_space(0.5), Bench(FakeDevice("7")), store=store, **FEW)
    again = profile(_space(), Bench(FakeDevice("7")), store=store, **FEW)
    assert len(again.table.rows) > len(model.table.rows)
    assert again.correction == model.correction
    assert again.heldout == model.heldout


def test_figures_of_another_moment_are_rescaled(tmp_path: Path) -> None:
    store, space = TableCache(tmp_path), _space()
    first = Bench(FakeDevice())
    plan = space.plan(space.sample(Random(1)))
    before = profile(space, first, store=store, **FEW).predict(plan)
    slower = Bench(FakeDevice(), reference_ms=2 * first.reference_ms)
    assert profile(space, slower, store=store, **FEW).predict(plan) == pytest.approx(2 * before, rel=1e-3)


def test_tables_hold_what_was_measured(model: LatencyModel) -> None:
    table: LatencyTable = model.table
    device = FakeDevice("7")
    assert table.call_ms == pytest.approx(0.004, rel=1e-3)
    assert table.fingerprint == device.fingerprint()
    for row in table.rows.values():
        assert row.count >= 30
        assert row.low_ms == pytest.approx(row.median_ms)
    for key, row in table.networks.items():
        assert network_key(row.blocks) == key


def test_sums_of_operations_are_predicted_by_their_parts(tmp_path: Path) -> None:
    """In the routed space, whose archs have blocks that no table holds."""
    space = routed((1, 8, 8), 4, width=0.5, stages=[Stage(16, 2, 1)], mbconvs=[(3, 3), (5, 2)])
    device = FakeDevice("7")
    found = profile(space, Bench(device), store=TableCache(tmp_path), fit_networks=12, heldout_networks=6)
    assert set(found.table.rows) == {block.key for block in space.blocks}
    assert found.heldout.error < 0.02
    arch = space.arch((7, 5))
    assert {block.op for block in space.plan(arch).blocks} >= {"sum"}
    network = Network(space.plan(arch)).eval()
    cost = device.cost_ms(device.export(network, space.input_shape))
    assert found.predict(space.plan(arch)) == pytest.approx(cost, rel=0.03)
    costs = found.costs(space)
    parts = [costs.edges[0][j] for j in range(3)] + [costs.edges[1][0], costs.edges[1][2]]
    assert bent(costs.constant + sum(parts), costs.bend) == pytest.approx(found.predict(space.plan(arch)))
