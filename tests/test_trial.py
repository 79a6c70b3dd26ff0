"""A trial survives JSON, and a reason makes it one that does not count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError
from netsmith.trial import Trial


@pytest.mark.parametrize("reason", ["", "latency_ms 3 over the budget's 2"])
def test_json_brings_back_the_same_trial(reason: str) -> None:
    trial = Trial(Arch("space", (1, 2)), {"error": 0.25, "latency_ms": 1.5}, reason)
    assert Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    assert trial.valid == (not reason)


@pytest.mark.parametrize(
    "data",
    [{}, [], {"arch": {"space": "a", "choices": []}, "figures": 3, "reason": ""}, {"arch": None}],
)
def test_what_is_not_a_trial_is_refused(data: Any) -> None:
    with pytest.raises(ArchError):
        Trial.from_dict(data)
