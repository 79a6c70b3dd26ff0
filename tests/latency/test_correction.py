"""A correction adds blocks up, bends the sum, and survives JSON."""

from __future__ import annotations

import json

import pytest

from netsmith.errors import TableError
from netsmith.latency.correction import Correction

CORRECTION = Correction(0.1, 1.2, 3e-8, {"a": -0.1}, 0.5)


def test_a_network_by_hand() -> None:
    assert CORRECTION.block_ms("a", 2.0, 1_000_000) == pytest.approx(1.1 * 2 + 0.03)
    assert CORRECTION.block_ms("b", 2.0, 0) == pytest.approx(2.4)
    assert Correction(0.0, 1.0, 0.0, {"a": -3.0}).block_ms("a", 2.0, 0) == 0.0
    assert CORRECTION.network_ms(0.9) == pytest.approx(1.0 + 0.5)


def test_it_survives_json() -> None:
    assert Correction.from_dict(json.loads(json.dumps(CORRECTION.to_dict()))) == CORRECTION


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale": float("inf")}, "finite"),
        ({"own": {"a": float("nan")}}, "finite"),
        ({"bend_per_ms": -0.1}, "bend below 0"),
        ({"own": [1]}, "not the correction"),
        ({"constant_ms": None}, "not the correction"),
    ],
)
def test_what_is_no_correction_is_an_error(change: dict[str, object], said: str) -> None:
    with pytest.raises(TableError, match=said):
        Correction.from_dict({**CORRECTION.to_dict(), **change})
    with pytest.raises(TableError, match="not the correction"):
        Correction.from_dict({"scale": 1})
