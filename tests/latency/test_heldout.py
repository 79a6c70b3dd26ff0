"""The held-out error in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from netsmith.errors import TableError
from netsmith.latency.heldout import HeldOut


def test_the_error_has_its_closed_form() -> None:
    heldout = HeldOut((1.1, 2.0, 2.7, 4.4), (1.0, 2.0, 3.0, 4.0))
    assert heldout.error == pytest.approx(0.075)
    assert heldout.rmse_ms == pytest.approx(np.sqrt((0.01 + 0.09 + 0.16) / 4))
    assert heldout.spearman == pytest.approx(1.0)
    assert HeldOut((1, 2, 2, 3), (1, 3, 2, 4)).spearman == pytest.approx(0.9486833)
    assert HeldOut((2, 2), (1, 3)).spearman == 0
    assert "7.5 % mean error" in heldout.describe()
    assert "sd" not in heldout.describe()
    assert "not checked" in HeldOut((), ()).describe()


def test_what_lies_within_two_standard_deviations_is_counted() -> None:
    heldout = HeldOut((1.0, 2.0, 3.0, 4.0), (1.19, 2.21, 2.9, 4.0), (0.1, 0.1, 0.1, 0.1))
    assert heldout.within_two_sd == 0.75
    assert "75 % of them within two of its sd" in heldout.describe()
    assert HeldOut((1.0,), (1.0,)).within_two_sd == 0.0


def test_it_survives_json() -> None:
    heldout = HeldOut((1.1, 2.0), (1.0, 2.0), (0.1, 0.2))
    assert HeldOut.from_dict(json.loads(json.dumps(heldout.to_dict()))) == heldout
    with pytest.raises(TableError, match="not a held-out"):
        HeldOut.from_dict({"points": [{}]})
    with pytest.raises(TableError, match="2 networks has 1 standard deviations"):
        HeldOut.from_dict({**heldout.to_dict(), "sd_ms": [1.0]})
