"""The fit finds the terms that made the data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from netsmith.errors import TableError
from netsmith.latency.fit import Correction, HeldOut, fit


def _networks(number: int, blocks: int = 30, seed: int = 0):
    rng = np.random.default_rng(seed)
    alone_of, bytes_of = rng.uniform(0.01, 0.2, blocks), rng.uniform(1e3, 5e5, blocks)
    has = rng.random((number, blocks)) < rng.uniform(0.2, 0.9, (number, 1))
    return has * alone_of, (has * bytes_of).sum(1), [f"b{i}" for i in range(blocks)]


def test_common_terms_are_found_exactly() -> None:
    alone, size, keys = _networks(40)
    measured = 1.3 * alone.sum(1) + 2e-7 * size + 0.05
    found = fit(alone, size, measured, keys)
    assert (found.scale, found.per_byte_ms, found.constant_ms) == pytest.approx((1.3, 2e-7, 0.05))
    assert max(map(abs, found.own.values())) < 1e-6


def test_a_block_that_departs_is_found_and_helps_unseen_networks() -> None:
    alone, size, keys = _networks(160)
    true = np.where(np.arange(30) % 5 == 0, 1.15, 1.0)
    measured = alone @ true + 0.02
    found = fit(alone[:120], size[:120], measured[:120], keys)
    own = np.array([found.own[key] for key in keys])
    assert own[::5].mean() > own[np.arange(30) % 5 != 0].mean() + 0.05
    predicted = found.constant_ms + found.per_byte_ms * size + alone @ (found.scale + own)
    plain = fit(alone[:120], size[:120], alone[:120].sum(1), keys)
    without = plain.constant_ms + plain.scale * alone.sum(1)
    errors = [np.abs(p / measured - 1)[120:].mean() for p in (predicted, without)]
    assert errors[0] < 0.5 * errors[1]


def test_weights_never_make_a_network_faster() -> None:
    alone, size, keys = _networks(40)
    measured = alone.sum(1) - 1e-7 * size + 1.0
    assert fit(alone, size, measured, keys).per_byte_ms == 0


def test_few_networks_fit_the_constant_alone() -> None:
    alone, size, keys = _networks(3)
    found = fit(alone, size, alone.sum(1) + 0.5, keys)
    assert (found.scale, found.per_byte_ms, found.constant_ms) == pytest.approx((1.0, 0.0, 0.5))
    assert fit(alone[:0], size[:0], size[:0], keys) == Correction(0.0, 1.0, 0.0)


def test_measurements_that_contradict_their_blocks_are_an_error() -> None:
    alone, size, keys = _networks(40)
    with pytest.raises(TableError, match="quieter machine"):
        fit(alone, size, 10 - alone.sum(1), keys)


def test_the_held_out_error_has_its_closed_form() -> None:
    heldout = HeldOut((1.1, 2.0, 2.7, 4.4), (1.0, 2.0, 3.0, 4.0))
    assert heldout.error == pytest.approx(0.075)
    assert heldout.rmse_ms == pytest.approx(np.sqrt((0.01 + 0.09 + 0.16) / 4))
    assert heldout.spearman == pytest.approx(1.0)
    assert HeldOut((1, 2, 2, 3), (1, 3, 2, 4)).spearman == pytest.approx(0.9486833)
    assert HeldOut((2, 2), (1, 3)).spearman == 0
    assert "7.5 % mean error" in heldout.describe()
    assert "not checked" in HeldOut((), ()).describe()


def test_both_survive_json() -> None:
    heldout = HeldOut((1.1, 2.0), (1.0, 2.0))
    assert HeldOut.from_dict(json.loads(json.dumps(heldout.to_dict()))) == heldout
    correction = Correction(0.1, 1.2, 3e-8, {"a": -0.1})
    assert Correction.from_dict(json.loads(json.dumps(correction.to_dict()))) == correction
    with pytest.raises(TableError, match="held-out"):
        HeldOut.from_dict({"points": [{}]})
    with pytest.raises(TableError, match="correction"):
        Correction.from_dict({"scale": 1})
    with pytest.raises(TableError, match="finite"):
        Correction.from_dict({**correction.to_dict(), "scale": float("inf")})
