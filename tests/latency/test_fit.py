"""The fit finds the terms that made the data, and no more than they."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from netsmith.errors import TableError
from netsmith.latency.correction import Correction
from netsmith.latency.fit import PREDICTORS, Predictor, fit
from netsmith.latency.regression import Networks

BLOCKS = 30
KEYS = [f"b{i}" for i in range(BLOCKS)]


def networks(number: int, seed: int = 0) -> Networks:
    rng = np.random.default_rng(seed)
    alone_of, bytes_of = rng.uniform(0.01, 0.2, BLOCKS), rng.uniform(1e3, 5e5, BLOCKS)
    has = rng.random((number, BLOCKS)) < rng.uniform(0.2, 0.9, (number, 1))
    kinds = np.eye(5)[np.arange(BLOCKS) % 5]
    return Networks(has * alone_of, (has * bytes_of).sum(1), np.zeros(number), kinds)


def of(known: Networks, measured: np.ndarray, part: slice = slice(None)) -> Networks:
    return Networks(known.alone_ms[part], known.weight_bytes[part], measured[part], known.kinds)


def predicted(found: Correction, known: Networks) -> np.ndarray:
    own = np.array([found.own.get(key, 0.0) for key in KEYS])
    sums = known.alone_ms @ (found.scale + own) + found.per_byte_ms * known.weight_bytes
    return np.array([found.network_ms(value) for value in sums])


def error(found: Correction, known: Networks, measured: np.ndarray) -> float:
    return float(np.abs(predicted(found, known) / measured - 1).mean())


@pytest.mark.parametrize("predictor", ["corrected", "learned"])
def test_common_terms_are_found(predictor: Predictor) -> None:
    known = networks(40)
    measured = 1.3 * known.alone_ms.sum(1) + 2e-7 * known.weight_bytes + 0.05
    found, _ = fit(of(known, measured), KEYS, predictor)
    assert found.scale == pytest.approx(1.3, rel=1e-3)
    assert found.per_byte_ms == pytest.approx(2e-7, rel=1e-2)
    assert found.constant_ms == pytest.approx(0.05, abs=1e-3)
    assert found.bend_per_ms == 0
    assert max(map(abs, found.own.values()), default=0.0) < 1e-3


@pytest.mark.parametrize("kinds", [True, False], ids=["a kind departs", "single blocks depart"])
def test_blocks_that_depart_are_found_and_help_unseen_networks(kinds: bool) -> None:
    known = networks(160)
    departs = np.arange(BLOCKS) % 5 == 0 if kinds else np.isin(np.arange(BLOCKS), (3, 11, 17, 24))
    measured = known.alone_ms @ np.where(departs, 1.3, 1.0) + 0.02
    errors = {}
    for predictor in PREDICTORS:
        found, _ = fit(of(known, measured, slice(120)), KEYS, predictor)
        errors[predictor] = error(found, of(known, measured, slice(120, None)), measured[120:])
    assert errors["learned"] < 0.2 * min(errors["corrected"], errors["sum"])


def test_a_latency_that_grows_faster_than_its_sum_is_found() -> None:
    known = networks(160)
    sums = 0.2 + known.alone_ms.sum(1)
    measured = sums + 0.15 * sums**2
    found, _ = fit(of(known, measured, slice(40)), KEYS)
    plain, _ = fit(of(known, measured, slice(40)), KEYS, "corrected")
    rest = of(known, measured, slice(40, None))
    assert error(found, rest, measured[40:]) < 0.2 * error(plain, rest, measured[40:])


def test_a_block_of_a_known_kind_departs_though_no_network_has_it() -> None:
    known = networks(80)
    known.alone_ms[:, 5] = 0
    measured = known.alone_ms @ np.where(np.arange(BLOCKS) % 5 == 0, 1.5, 1.0)
    found, _ = fit(of(known, measured), KEYS)
    factors = np.array([found.scale + found.own.get(key, 0.0) for key in KEYS])
    assert factors[5] == pytest.approx(1.5, abs=0.05)
    assert factors[6] == pytest.approx(1.0, abs=0.05)


def test_standard_deviations_hold_what_they_promise() -> None:
    rng, known = np.random.default_rng(1), networks(300)
    true = 1.1 + 0.1 * rng.standard_normal(BLOCKS)
    measured = (known.alone_ms @ true + 0.1) * (1 + rng.normal(0, 0.02, 300))
    found, posterior = fit(of(known, measured, slice(40)), KEYS)
    assert posterior is not None
    rest = of(known, measured, slice(40, None))
    expected = predicted(found, rest)
    sd = posterior.sd_ms(rest.alone_ms, rest.weight_bytes, expected)
    within = np.mean(np.abs(expected - rest.measured_ms) <= 2 * sd)
    assert 0.9 <= within <= 0.99


def test_weights_never_make_a_network_faster() -> None:
    known = networks(40)
    measured = known.alone_ms.sum(1) - 1e-7 * known.weight_bytes + 1.0
    found, _ = fit(of(known, measured), KEYS)
    assert found.per_byte_ms == 0


def test_few_networks_fit_the_constant_alone() -> None:
    known = networks(3)
    found, posterior = fit(of(known, known.alone_ms.sum(1) + 0.5), KEYS)
    assert (found.scale, found.per_byte_ms, found.constant_ms) == pytest.approx((1.0, 0.0, 0.5))
    assert posterior is None
    none = replace(known, alone_ms=known.alone_ms[:0], weight_bytes=np.zeros(0), measured_ms=np.zeros(0))
    assert fit(none, KEYS) == (Correction(0.0, 1.0, 0.0), None)


@pytest.mark.parametrize("predictor", ["corrected", "learned"])
def test_measurements_that_contradict_their_blocks_are_an_error(predictor: Predictor) -> None:
    known = networks(40)
    with pytest.raises(TableError, match="quieter machine"):
        fit(of(known, 10 - known.alone_ms.sum(1)), KEYS, predictor)
