"""Strategies that judge archs one by one find what is best within the budget, and resume to the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.journal import read
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.strategy import EVALUATIONS, search_archs
from netsmith.plan import Block
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.derive import OpenPaths
from netsmith.supernet.paths import Paths
from netsmith.trial import Trial

Make = Callable[..., Settings]
STRATEGIES = ("random", "evolution", "local", "surrogate")
EDGES, OPTIONS = 5, 4


@pytest.fixture(scope="module")
def space() -> ChainSpace:
    edge = tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(OPTIONS))
    return ChainSpace("chain", (), (edge,) * EDGES, ())


def opened(space: ChainSpace) -> OpenPaths:
    """Option i costs i; of the first edge, option 2 is closed."""
    paths = Paths(space, torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths.alpha[0, 2] = -30
    paths.prune(1e-3)
    return OpenPaths(paths, AdditiveCost(0.0, [[float(i) for i in range(OPTIONS)]] * EDGES))


def error(arch: Arch) -> float:
    """Later edges are worth more; what is dear is good."""
    return 1 - sum((i + 1) * choice for i, choice in enumerate(arch.choices)) / 100


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_archs_are_within_the_limits_and_open_and_come_best_first(space: ChainSpace, strategy: str) -> None:
    heard: list[int] = []
    found = search_archs(
        strategy, space, opened(space), lambda a: Trial(a, {"error": error(a)}), (6.0, 8.0), 60, 0,
        lambda number, trial: heard.append(number),
    )  # fmt: skip
    assert heard == list(range(1, 61))
    assert all(6 <= sum(arch.choices) <= 8 and arch.choices[0] != 2 for arch in found)
    assert [error(arch) for arch in found] == sorted(error(arch) for arch in found)
    every = (c for c in product(range(OPTIONS), repeat=EDGES) if 6 <= sum(c) <= 8 and c[0] != 2)
    best = min(error(space.arch(choices)) for choices in every)
    assert error(found[0]) <= best + (0.05 if strategy == "random" else 0.02)


def test_the_least_is_given_up_where_nothing_costs_so_much(space: ChainSpace) -> None:
    def score(arch: Arch) -> Trial:
        return Trial(arch, {"error": error(arch)})

    assert search_archs("random", space, opened(space), score, (40.0, 50.0), 5, 0)
    with pytest.raises(BudgetError):
        search_archs("random", space, opened(space), score, (-2.0, -1.0), 5, 0)


def test_what_breaks_the_budget_is_not_handed_on(space: ChainSpace) -> None:
    def score(arch: Arch) -> Trial:
        dear = arch.choices[1] > 0
        return Trial(arch, {} if dear else {"error": error(arch)}, "too large" if dear else "")

    found = search_archs("evolution", space, opened(space), score, (0.0, 15.0), 40, 0)
    assert all(arch.choices[1] == 0 for arch in found)


def test_a_design_by_evolution_trains_weights_alone_and_keeps_the_budget(small: Make, tmp_path: Path) -> None:
    design = run(small(strategy="evolution"), tmp_path)
    events = list(read(tmp_path / "journal"))
    assert {e["phase"] for e in events if e["event"] == "search_epoch"} == {"warm-up"}
    judged = {e["digest"] for e in events if e["event"] == "trial" and e["stage"] == "derive"}
    assert 4 < len(judged) <= EVALUATIONS["quick"]
    assert design.budget_met
    assert design.result["strategy"] == "evolution"
    page = (tmp_path / "report.html").read_text()
    assert "Archs judged, in their order" in page
    assert "Probability of every option" not in page
