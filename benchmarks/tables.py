"""How many trainings each searcher needs, where every arch's accuracy is published and the best one known.

NAS-Bench-Macro and NAS-Bench-201 (three data sets), many seeds each. A query is one arch asked for, whether
it was asked before or not. A run ends after ``MOST`` queries and counts as so many. The draws of a warm
searcher are each the best of ``POOL`` by a score that needs no training. What was finished is in the records
file.

    python benchmarks/tables.py --data ../shared/data --json tables.json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import Figure, Records, parser, publish

from netsmith.published.nas_bench_201 import DATA_SETS, read_nas_bench_201
from netsmith.published.nas_bench_macro import read_nas_bench_macro
from netsmith.published.table import PublishedTable
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.optuna import tpe
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.search.surrogate import SurrogateSearch
from netsmith.search.warm import Score, best_drawn

Make = Callable[[PublishedTable, int], Searcher]
SEARCHERS: dict[str, Make] = {
    "random": lambda table, seed: RandomSearch(table.space.sample, seed),
    "evolution": lambda table, seed: Evolution(table.space, table.space.sample, seed),
    "local": lambda table, seed: LocalSearch(table.space, table.space.sample, seed),
    "surrogate": lambda table, seed: SurrogateSearch(table.space, table.space.sample, seed),
    "tpe": lambda table, seed: tpe(table.space, table.space.sample, seed),
}
POOL = 8
NEAR = 0.001  # of the true optimum: a tenth of a percentage point
AFTER = (50, 100, 200)
MOST = 3000


def scores_of(table: PublishedTable) -> dict[str, Score]:
    """What can be known before training: parameters, and of NAS-Bench-201 two scores more."""

    def published(name: str) -> Score:
        return lambda arch: table.scores[name][arch.choices]

    return {
        "params": lambda arch: table.rows[arch.choices]["params"],
        **{name: published(name) for name in table.scores},
    }


def warm(kind: type[LocalSearch] | type[SurrogateSearch], score: Score) -> Make:
    return lambda table, seed: kind(table.space, best_drawn(table.space.sample, score, POOL), seed)


def searchers_of(table: PublishedTable) -> dict[str, Make]:
    kinds = {"local": LocalSearch, "surrogate": SurrogateSearch}
    return SEARCHERS | {
        f"{name}, warm by {by}": warm(kind, score)
        for name, kind in kinds.items()
        for by, score in scores_of(table).items()
    }


def regrets(table: PublishedTable, make: Make, seed: int) -> list[float]:
    """How far the best so far is from the optimum after each query, at least as many as ``AFTER`` asks."""
    searcher, least, found = make(table, seed), table.least("error"), [1.0]
    while len(found) <= MOST and (found[-1] > NEAR or len(found) <= max(AFTER)):
        trial = table.trial(searcher.ask())
        searcher.tell(trial)
        found.append(min(found[-1], trial.figures["error"] - least))
    return found[1:]


def judged(table: PublishedTable, make: Make, seeds: Sequence[int]) -> dict[str, list[float]]:
    """Of every seed: the queries until the optimum is near, and the regret after some."""
    runs = [regrets(table, make, seed) for seed in seeds]
    queries = [next((n for n, regret in enumerate(run, 1) if regret <= NEAR), MOST) for run in runs]
    return {"queries": queries, **{str(after): [run[after - 1] for run in runs] for after in AFTER}}


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/tables.json"))
    arguments.add_argument("--seeds", type=int, default=50)
    options = arguments.parse_args()
    paths = (
        options.data / "nas_bench_macro/nas-bench-macro_cifar10.json",
        options.data / "nb201/nb201_joined.parquet",
    )
    if not all(path.exists() for path in paths):
        print(f"skipped: {' and '.join(map(str, paths))} are not there; give the folder of both")
        return
    records, seeds, figures = Records(options.records), range(options.seeds), []
    for table in (read_nas_bench_macro(paths[0]), *(read_nas_bench_201(paths[1], d) for d in DATA_SETS)):
        median = {}
        for name, make in searchers_of(table).items():
            title = f"{table.name}, {name}"
            found = records.once(
                f"{title}, {options.seeds} seeds", lambda t=table, m=make: judged(t, m, seeds)
            )
            median[name] = statistics.median(found["queries"])
            figures.append(Figure(f"{title}: queries to 0.1 points of the optimum, median", median[name]))
            figures += [
                Figure(
                    f"{title}: regret after {n} queries, mean", 100 * statistics.mean(found[str(n)]), "points"
                )
                for n in AFTER
            ]
        ours = {name: value for name, value in median.items() if name in ("local", "surrogate")}
        for name, value in ours.items():
            share = value / median["evolution"]
            bar = "<= 0.5" if value == min(ours.values()) else None
            figures.append(Figure(f"{table.name}: queries of {name} over evolution", share, "x", bar))
    publish(figures, options.json)


if __name__ == "__main__":
    main()
