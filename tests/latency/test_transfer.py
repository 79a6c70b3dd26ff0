"""A known device and ten networks of a new one predict the new one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from netsmith.devices.bench import Bench
from netsmith.errors import TableError
from netsmith.latency.cache import TableCache
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.latency.transfer import fit_transfer, kept_under, transfer
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


def test_planted_terms_are_found() -> None:
    rng = np.random.default_rng(0)
    keys = [f"{kind}{i}" for kind in "ab" for i in range(6)]
    kinds = {key: key[0] for key in keys} | {"c0": "c"}
    alone = rng.uniform(0.05, 0.15, 12) * (rng.random((10, 12)) < 0.5)
    factor = np.array([2.0 if key[0] == "a" else 9.0 for key in keys])
    correction = fit_transfer(alone, 0.2 + alone @ factor, keys, kinds)
    for key, wanted in zip(keys, factor, strict=True):
        assert correction.scale + correction.own[key] == pytest.approx(wanted, rel=0.1)
    assert correction.constant_ms == pytest.approx(0.2, abs=0.1)
    assert correction.own["c0"] == 0.0, "of a kind that was never seen the common scale is all that is known"
