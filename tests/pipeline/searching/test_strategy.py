"""Strategies that judge archs one by one find what is best within the budget, and resume to the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from netsmith import pareto
from netsmith.arch import Arch
from netsmith.journal import read
from netsmith.pipeline.design import run
from netsmith.pipeline.searching.choose import EVALUATIONS
from netsmith.pipeline.searching.store import Contents, Store
from netsmith.pipeline.searching.strategy import Hunt, run_strategy
from netsmith.pipeline.settings import Settings
from netsmith.plan import Block
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.derive import OpenPaths
from netsmith.supernet.paths import Paths
from netsmith.trial import Trial

Make = Callable[..., Settings]
STRATEGIES = ("random", "evolution", "local", "surrogate", "nsga2", "tpe")
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


def hunt(space: ChainSpace, trials: int, **changes: Any) -> Hunt:
    """Archs that cost 6 to 8, by the open options."""
    left_open = opened(space)
    given: dict[str, Any] = {
        "draw": lambda rng: left_open.draw(rng, 8.0, 6.0),
        "allowed": lambda arch: arch in left_open and 6 <= left_open.cost(arch) <= 8,
        "objectives": ("error",),
        "known": lambda arch: {"macs": float(sum(arch.choices))},
        **changes,
    }
    return Hunt(space=space, trials=trials, seed=0, **given)


def kept(space: ChainSpace, folder: Path, objectives: tuple[str, ...] = ("error",)) -> Store:
    return Store.open(folder / "trials.db", "test", Contents(space.id, space.decisions, objectives, ""))


def judge(arch: Arch) -> Trial:
    return Trial(arch, {"error": error(arch), "macs": float(sum(arch.choices))})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_archs_are_within_the_limits_and_open_and_near_the_best(
    space: ChainSpace, strategy: str, tmp_path: Path
) -> None:
    heard: list[int] = []
    trials = run_strategy(
        strategy, hunt(space, 60), judge, kept(space, tmp_path), on_trial=lambda n, trial: heard.append(n)
    )
    assert heard == list(range(1, 61))
    archs = [trial.arch for trial in trials]
    assert len(set(archs)) == len(archs)
    assert all(6 <= sum(arch.choices) <= 8 and arch.choices[0] != 2 for arch in archs)
    every = (c for c in product(range(OPTIONS), repeat=EDGES) if 6 <= sum(c) <= 8 and c[0] != 2)
    best = min(error(space.arch(choices)) for choices in every)
    assert min(map(error, archs)) <= best + (0.05 if strategy in ("random", "nsga2", "tpe") else 0.02)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_the_store_holds_is_not_judged_again(space: ChainSpace, strategy: str, tmp_path: Path) -> None:
    """A search that was killed asks the same archs, and is told what it had found."""
    judged: list[Arch] = []

    def counting(arch: Arch) -> Trial:
        judged.append(arch)
        return judge(arch)

    class KilledError(Exception):
        pass

    def kill(number: int, trial: Trial) -> None:
        if number == 10:
            raise KilledError

    with pytest.raises(KilledError):
        run_strategy(strategy, hunt(space, 30), counting, kept(space, tmp_path), on_trial=kill)
    resumed = run_strategy(strategy, hunt(space, 30), counting, kept(space, tmp_path))
    assert len(judged) == len(set(judged))
    (tmp_path / "whole").mkdir()
    assert resumed == run_strategy(strategy, hunt(space, 30), judge, kept(space, tmp_path / "whole"))


def test_a_front_is_looked_for_where_objectives_are_several(space: ChainSpace, tmp_path: Path) -> None:
    objectives = ("error", "macs")
    wide = hunt(space, 80, objectives=objectives, draw=space.sample, allowed=lambda arch: True)
    trials = run_strategy("nsga2", wide, judge, kept(space, tmp_path, objectives))
    assert min(t.figures["macs"] for t in trials) <= 2
    assert max(t.figures["macs"] for t in trials) >= 12


def test_a_design_by_evolution_trains_weights_alone_and_keeps_the_budget(small: Make, tmp_path: Path) -> None:
    design = run(small(strategy="evolution"), tmp_path)
    events = list(read(tmp_path / "journal"))
    assert {e["phase"] for e in events if e["event"] == "search_epoch"} == {"warm-up"}
    judged = {e["digest"] for e in events if e["event"] == "trial" and e["stage"] == "derive"}
    assert 4 < len(judged) <= EVALUATIONS["quick"]
    assert design.budget_met
    assert design.result["strategy"] == "evolution"
    assert (tmp_path / "journal.db").exists()
    page = (tmp_path / "report.html").read_text()
    assert "Archs judged, in their order" in page
    assert "Probability of every option" not in page


def test_a_front_of_the_supernet_is_measured_and_has_a_page(small: Make, tmp_path: Path) -> None:
    design = run(small(strategy="nsga2", latency=None, objectives="error,latency,size"), tmp_path)
    assert len(design.front) >= 2
    points = [tuple(p["figures"][n] for n in ("error", "latency_ms", "size_bytes")) for p in design.front]
    assert pareto.front(points) == list(range(len(points)))
    page = (tmp_path / "report.html").read_text()
    assert "The front" in page
    assert page.count('class="front-arch"') == len(design.front)
