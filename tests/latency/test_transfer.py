"""A known device and ten networks of a new one predict the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from netsmith.devices.bench import Bench
from netsmith.errors import TableError
from netsmith.latency.cache import TableCache
from netsmith.latency.fit import alone_ms, block_counts
from netsmith.latency.heldout import HeldOut
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.latency.table import FREE_OPERATIONS
from netsmith.latency.transfer import fit_transfer, kept_under, transfer
from netsmith.nn.count import count_block
from netsmith.plan import Block
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.testing import FakeDevice

pytest.importorskip("onnxruntime")

STAGES = [Stage(8, 2, 1), Stage(16, 3, 2)]
SPACE = mbconv((1, 8, 8), 4, stages=STAGES)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> LatencyModel:
    """The model of a device that likes kernels of 3."""
    store = TableCache(tmp_path_factory.mktemp("known"))
    return profile(SPACE, Bench(FakeDevice("3")), store=store, fit_networks=10, heldout_networks=6)


def test_a_device_of_other_taste_is_predicted_from_ten_networks(known: LatencyModel, tmp_path: Path) -> None:
    bench, store = Bench(FakeDevice("7")), TableCache(tmp_path)
    found = transfer(SPACE, bench, known, store=store)
    assert found.model.heldout.error < 0.05
    assert len(found.model.heldout.measured_ms) == 16
    assert found.agreement < found.model.heldout.spearman
    assert len(store.load(kept_under(bench)).networks) == 26
    assert store.load(bench.fingerprint()) is None, "the device's own table is left as it was"
    constant, edges, _ = found.model.costs(SPACE)
    arch = SPACE.sample(Random(1))
    total = constant + sum(row[choice] for row, choice in zip(edges, arch.choices, strict=True))
    assert total == pytest.approx(found.model.predict(SPACE.plan(arch)))
    assert "blocks of" in found.model.table.fingerprint


def test_what_was_measured_is_not_measured_again(known: LatencyModel, tmp_path: Path) -> None:
    bench, store = Bench(FakeDevice("7")), TableCache(tmp_path)
    first = transfer(SPACE, bench, known, store=store)
    told: list[float] = []
    again = transfer(
        SPACE, bench, known, store=store, on_progress=lambda done, total, note: told.append(done)
    )
    assert again == first
    assert not told


def test_a_table_of_another_space_is_refused(known: LatencyModel, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="lacks"):
        transfer(
            mbconv((1, 8, 8), 5, stages=STAGES), Bench(FakeDevice("7")), known, store=TableCache(tmp_path)
        )
    with pytest.raises(TableError, match="three networks"):
        transfer(SPACE, Bench(FakeDevice("7")), known, networks=2, store=TableCache(tmp_path))


def by_kernel(known: LatencyModel, block: Block) -> float:
    return {1: 1.0, 3: 2.0, 5: 4.0, 7: 9.0}[block.kernel] * known.table.alone_ms(block)


def by_work(known: LatencyModel, block: Block) -> float:
    return {1: 1e-7, 3: 1e-7, 5: 3e-7, 7: 8e-7}[block.kernel] * count_block(block).macs


def by_kernel_nothing_for_some(known: LatencyModel, block: Block) -> float:
    """As on a device whose fast kernels leave next to nothing of what was dear on the known one."""
    return {1: 1.0, 3: 3.0, 5: 0.0, 7: 0.0}[block.kernel] * known.table.alone_ms(block)


@pytest.mark.parametrize("cost", [by_kernel, by_work, by_kernel_nothing_for_some])
def test_devices_that_differ_by_kernel_or_by_work_are_predicted(
    known: LatencyModel, cost: Callable[[LatencyModel, Block], float]
) -> None:
    rng = Random(2)
    plans = [SPACE.plan(SPACE.sample(rng)) for _ in range(40)]
    true = np.array(
        [0.02 + sum(cost(known, b) for b in plan.blocks if b.op not in FREE_OPERATIONS) for plan in plans]
    )
    found = LatencyModel(known.table, fit_transfer(known.table, plans[:10], true[:10]), HeldOut((), ()))
    predicted = np.array([found.predict(plan) for plan in plans[10:]])
    assert np.abs(predicted / true[10:] - 1).mean() < 0.04
    assert np.corrcoef(predicted, true[10:])[0, 1] > 0.98
    assert all(found.correction.scale + own >= -1e-9 for own in found.correction.own.values())


def test_a_device_that_is_the_known_one_twice_as_slow_is_found(known: LatencyModel) -> None:
    plans = [SPACE.plan(SPACE.sample(Random(seed))) for seed in range(10)]
    counts = block_counts(known.table, plans)
    found = fit_transfer(known.table, plans, 2 * counts @ alone_ms(known.table))
    factors = [found.scale + own for own in found.own.values()]
    assert factors == pytest.approx([2.0] * len(factors), rel=1e-6)
    assert found.constant_ms == pytest.approx(0.0, abs=1e-9)
