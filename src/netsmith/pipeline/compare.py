"""Strategies side by side: the same job by each, with several seeds, and what came out at what cost.

Every run is a design in a folder of its own, so that a comparison which was killed goes on where it was.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netsmith import pareto
from netsmith.errors import SettingsError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.folder import write_whole
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.settings import Settings

# The corner from which a front's volume is taken lies so much beyond the worst of all fronts.
MARGIN = 1.05


def run_compare(
    asked: Mapping[str, Any],
    strategies: Sequence[str],
    seeds: int,
    out: Path,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Design by each of ``strategies`` with seeds 0..``seeds`` - 1 in ``out``, and return what came out.

    ``asked`` are the settings that all share, by name. Raises :class:`SettingsError` where a strategy is
    given twice, or fewer than two are.
    """
    if len(set(strategies)) < max(2, len(strategies)):
        raise SettingsError(f"a comparison is of two strategies or more, each once; got {list(strategies)}")
    if seeds < 1:
        raise SettingsError(f"a comparison has at least one seed; got {seeds}")
    told = progress or Silent()
    jobs = {
        (strategy, seed): Settings.from_mapping(
            {**asked, "strategy": strategy, "seed": seed, "baselines": "none"}
        )
        for strategy in strategies
        for seed in range(seeds)
    }
    designs: dict[tuple[str, int], Design] = {}
    for seed in range(seeds):  # seed by seed, so that what is there early is of all strategies
        for strategy in strategies:
            told.say(f"{strategy}, seed {seed}")
            designs[strategy, seed] = run(jobs[strategy, seed], out / f"{strategy}-{seed}", progress=progress)
    found = compared(designs)
    content = json.dumps(found, indent=1, allow_nan=False) + "\n"
    write_whole(out / "comparison.json", content.encode())
    return found


def compared(designs: Mapping[tuple[str, int], Design]) -> dict[str, Any]:
    """Return each run's answer and front, each strategy's means and spreads, and the rank test.

    The volume of a front is that of what it dominates up to a corner, which lies beyond the worst of all
    fronts that were judged alike: a supernet's errors are not those of trainings, and are not compared.
    """
    runs = [_run(strategy, seed, design) for (strategy, seed), design in designs.items()]
    for judge in {r["judge"] for r in runs}:
        alike = [r for r in runs if r["judge"] == judge]
        names = alike[0]["objectives"]
        if any(r["objectives"] != names for r in alike):
            continue
        points = [[[p[name] for name in names] for p in r["front"]] for r in alike]
        corner = [MARGIN * max(p[i] for front in points for p in front) for i in range(len(names))]
        whole = pareto.hypervolume([[0.0] * len(names)], corner)
        for r, front in zip(alike, points, strict=True):
            r["hypervolume"] = pareto.hypervolume(front, corner) / whole
    strategies = list(dict.fromkeys(r["strategy"] for r in runs))
    return {
        "runs": runs,
        "strategies": [_summary(name, [r for r in runs if r["strategy"] == name]) for name in strategies],
        "tests": {
            figure: rank_test({n: [r[figure] for r in runs if r["strategy"] == n] for n in strategies})
            for figure in ("validation_accuracy", "hypervolume")
        },
    }


def rank_test(values: Mapping[str, Sequence[float | None]]) -> dict[str, Any] | None:
    """Return Friedman's test over seeds, of two strategies the signed-rank test; None without the figures.

    Demsar 2006, section 3.2.2: each seed ranks the strategies, and p is how likely such mean ranks are if
    none differed.
    """
    from scipy import stats

    columns = list(values.values())
    if len(columns) < 2 or len(columns[0]) < 2 or any(None in column for column in columns):
        return None
    ranks = [stats.rankdata([-v for v in row if v is not None]) for row in zip(*columns, strict=True)]
    means = {name: statistics.mean(r[i] for r in ranks) for i, name in enumerate(values)}
    if len({tuple(column) for column in columns}) == 1:
        p = 1.0  # all alike, which the tests do not take
    elif len(columns) == 2:
        p = float(stats.wilcoxon(*columns).pvalue)
    else:
        p = float(stats.friedmanchisquare(*columns).pvalue)
    return {"p": p, "mean_ranks": means, "seeds": len(columns[0])}


def _run(strategy: str, seed: int, design: Design) -> dict[str, Any]:
    result = design.result
    names = result["objectives"]
    front = [point["figures"] for point in design.front]
    return {
        "strategy": strategy,
        "seed": seed,
        "space": result["space"],
        "judge": result["judge"],
        "objectives": names if len(names) > 1 else [*names, "latency_ms"],
        "folder": design.folder.name,
        "validation_accuracy": result["validation_accuracy"],
        "accuracy": result["accuracy"],
        "latency_ms": result["latency_ms"],
        "size_bytes": result["size_bytes"],
        "budget_met": result["budget_met"],
        "seconds": result["total_seconds"],
        "front": front,
        "hypervolume": None,
    }


def _summary(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean and the standard deviation of a strategy's figures over its seeds."""
    figures = ("validation_accuracy", "latency_ms", "size_bytes", "hypervolume", "seconds")
    found: dict[str, Any] = {"strategy": name, "seeds": len(runs), "judge": runs[0]["judge"]}
    for figure in figures:
        values = [r[figure] for r in runs if r[figure] is not None]
        mean = statistics.mean(values) if values else None
        spread = statistics.stdev(values) if len(values) > 1 else None
        found[figure] = {"mean": mean, "spread": spread}
    return found
