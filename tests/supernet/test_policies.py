"""Policies, archs and latencies say the same of a path."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from netsmith.costs import Costs
from netsmith.errors import ArchError, SettingsError
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed
from netsmith.supernet.policies import archs_of, complete, latencies_ms, policies_of

SPACE = routed((3, 8, 8), 4, width=0.25, stages=[Stage(32, 2, 2)], mbconvs=[(3, 2)])
ALL = torch.tensor(list(product([False, True], repeat=4))).view(16, 2, 2)
COSTS = Costs(1.0, [[2.0, 4.0], [8.0, 16.0]])


def test_an_edge_that_must_not_be_skipped_takes_its_last_operation() -> None:
    completed = complete(SPACE, ALL)
    changed = (completed != ALL).flatten(1).any(1)
    assert changed.equal(~ALL[:, 0].any(1))
    assert completed[changed][:, 0].equal(torch.tensor([[False, True]] * 4))
    assert completed[:, 1].equal(ALL[:, 1])
    assert complete(SPACE, completed).equal(completed)


def test_archs_and_policies_are_the_same_paths() -> None:
    archs = [SPACE.arch(choices) for choices in product(*SPACE.options)]
    policies = policies_of(SPACE, archs)
    assert policies.shape == (len(archs), 2, 2)
    assert archs_of(SPACE, policies) == archs
    assert set(archs_of(SPACE, ALL)) == set(archs)
    assert policies_of(SPACE, [SPACE.arch((2, 1))]).tolist() == [[[False, True], [True, False]]]


def test_latency_is_the_sum_of_what_is_active() -> None:
    """With costs of powers of two the sum tells the path."""
    for policy, got in zip(ALL.tolist(), latencies_ms(SPACE, COSTS, ALL).tolist(), strict=True):
        first = sum(c for on, c in zip(policy[0], (2, 4), strict=True) if on) or 4
        assert got == 1 + first + sum(c for on, c in zip(policy[1], (8, 16), strict=True) if on)
    bent = latencies_ms(SPACE, COSTS._replace(bend=0.1), ALL[-1:])
    assert bent.item() == pytest.approx(31 + 0.1 * 31**2)


def test_what_does_not_fit_the_space_is_refused() -> None:
    for wrong in (ALL.float(), ALL[:, :1], ALL[0]):
        with pytest.raises(ArchError, match=r"booleans \(N, 2, 2\)"):
            complete(SPACE, wrong)
    with pytest.raises(SettingsError, match="costs of 2 edges of 2 operations"):
        latencies_ms(SPACE, Costs(0.0, [[1.0, 2.0]]), ALL)
