"""What is asked of Optuna: draws first, then proposals; what is not allowed, and what was not asked here."""

from __future__ import annotations

import sys
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import MissingExtraError
from netsmith.plan import Block
from netsmith.search.optuna import nsga2, tpe
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial

EDGE = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(4))
SPACE = ChainSpace("chain", (), (EDGE,) * 5, (Block("head", 8, 3, 4, 4, hidden=8),))


def test_without_optuna_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    for make in (nsga2, tpe):
        with pytest.raises(MissingExtraError, match=r"netsmith\[optuna\]"):
            make(SPACE, SPACE.sample, 0)


def test_the_first_generation_is_drawn() -> None:
    pytest.importorskip("optuna")
    drawn: list[Arch] = []

    def draw(rng: Random) -> Arch:
        drawn.append(SPACE.sample(rng))
        return drawn[-1]

    search = nsga2(SPACE, draw, 0, population=6)
    asked = []
    for _ in range(12):
        asked.append(search.ask())
        search.tell(Trial(asked[-1], {"error": float(sum(asked[-1].choices))}))
    assert asked[:6] == drawn
    assert len(drawn) == 6


def test_where_nothing_proposed_is_allowed_it_draws() -> None:
    pytest.importorskip("optuna")
    corner = SPACE.arch((3,) * 5)
    search = tpe(SPACE, lambda rng: corner, 0, allowed=lambda arch: arch == corner, first=2)
    for _ in range(6):
        assert search.ask() == corner
        search.tell(Trial(corner, {"error": 1.0}))


def test_trials_that_were_not_asked_here_are_learnt_from() -> None:
    """As when a search goes on from trials on disk: where the first three decisions matter, it knows."""
    pytest.importorskip("optuna")
    search = tpe(SPACE, SPACE.sample, 0, first=0)
    for number in range(64):
        arch = SPACE.arch((*(number // 4**i % 4 for i in range(3)), 0, 0))
        search.tell(Trial(arch, {"error": 0.1 * sum(arch.choices)}))
    sums = []
    for _ in range(20):
        arch = search.ask()
        sums.append(sum(arch.choices[:3]))
        search.tell(Trial(arch, {"error": 0.1 * sum(arch.choices)}))
    assert sum(sums) / 20 < 2.5  # draws have 4.5
