"""How many trainings each searcher needs for a front, where every arch's figures are published.

NAS-Bench-201 on ImageNet-16-120, the hardest of its data sets, with the error and the latency on a phone
(Pixel 3), a Raspberry Pi 4, a GPU (Titan RTX, one image) and an FPGA, and with error, latency and
parameters; NAS-Bench-Macro with error and parameters.

A query is an arch that was not asked for before: what is asked again costs nothing here, though it does in
``tables.py``, since Optuna's NSGA-II repeats itself. Counted are the queries until the front found has 99 %
of the true front's hyper-volume. For that each objective is scaled so that the true front reaches from 0
(its ideal point: the least of each figure) to 1 (its nadir: the greatest of each figure on the true front),
and the reference point is the nadir; the worst of the table would make the task easy, since a few useless
archs have errors and latencies far beyond the front. A run ends after ``MOST`` queries and counts as so
many: a median of ``MOST`` means at least that.

The defaults of the searchers were chosen on other tables: CIFAR-10 and -100 with Eyeriss, Gold 6226 and
2080 Ti, ImageNet-16-120 with the Samsung S7, and NAS-Bench-Macro with multiply-adds. ``surrogate, told`` is
given latency and parameters of any arch, as they are known without training; it has the error to predict.

    python benchmarks/fronts.py --data ../shared/data --json fronts.json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import Figure, Records, parser, publish

from netsmith.arch import Arch
from netsmith.pareto import hypervolume
from netsmith.published.nas_bench_201 import read_nas_bench_201
from netsmith.published.nas_bench_macro import read_nas_bench_macro
from netsmith.published.table import PublishedTable
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.optuna import nsga2
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.search.surrogate import SurrogateSearch

Names = Sequence[str]
Make = Callable[[PublishedTable, int, Names], Searcher]
SHARE = 0.99
MOST = 1000


def told(table: PublishedTable, seed: int, names: Names) -> Searcher:
    def known(arch: Arch) -> Mapping[str, float]:
        return {name: table.rows[arch.choices][name] for name in names if name != "error"}

    return SurrogateSearch(table.space, table.space.sample, seed, objectives=names, known=known)


SEARCHERS: dict[str, Make] = {
    "random": lambda table, seed, names: RandomSearch(table.space.sample, seed),
    "evolution": lambda table, seed, names: Evolution(
        table.space, table.space.sample, seed, objectives=names
    ),
    "local": lambda table, seed, names: LocalSearch(table.space, table.space.sample, seed, objectives=names),
    "surrogate, told": told,
    "surrogate": lambda table, seed, names: SurrogateSearch(
        table.space, table.space.sample, seed, objectives=names
    ),
    "nsga2": lambda table, seed, names: nsga2(table.space, table.space.sample, seed, objectives=names),
}
CELLS = (
    ("error", "latency_ms_pixel3"),
    ("error", "latency_ms_raspi4"),
    ("error", "latency_ms_titan_rtx_1"),
    ("error", "latency_ms_fpga"),
    ("error", "latency_ms_pixel3", "params"),
)
MACRO = (("error", "params"),)


class Volume:
    """The share of the true front's hyper-volume that the front found so far has."""

    def __init__(self, table: PublishedTable, names: Names) -> None:
        self._names, true = names, table.front(names)
        columns = list(zip(*true, strict=True))
        self._least = [min(column) for column in columns]
        self._ranges = [max(column) - min(column) for column in columns]
        self._whole = self._of([self._scaled(point) for point in true])
        self._front: list[tuple[float, ...]] = []
        self.share = 0.0

    def add(self, figures: Mapping[str, float]) -> None:
        point = self._scaled([figures[name] for name in self._names])
        if not any(all(x <= y for x, y in zip(other, point, strict=True)) for other in self._front):
            beaten = (any(x < y for x, y in zip(other, point, strict=True)) for other in self._front)
            self._front = [other for other, kept in zip(self._front, beaten, strict=True) if kept]
            self._front.append(point)
            self.share = self._of(self._front) / self._whole

    def _scaled(self, point: Sequence[float]) -> tuple[float, ...]:
        scales = zip(point, self._least, self._ranges, strict=True)
        return tuple((x - least) / size for x, least, size in scales)

    def _of(self, points: Sequence[Sequence[float]]) -> float:
        return hypervolume(points, (1.0,) * len(self._names))


def queries(table: PublishedTable, names: Names, make: Make, seed: int) -> int:
    searcher, volume, seen = make(table, seed, names), Volume(table, names), set[Arch]()
    for _ in range(4 * MOST):  # a searcher that repeats itself alone comes to an end as well
        arch = searcher.ask()
        trial = table.trial(arch)
        searcher.tell(trial)
        seen.add(arch)
        volume.add(trial.figures)
        if volume.share >= SHARE or len(seen) >= MOST:
            return len(seen)
    return MOST


def judged(table: PublishedTable, names: Names, make: Make, seeds: int) -> dict[str, list[int]]:
    return {"queries": [queries(table, names, make, seed) for seed in range(seeds)]}


def figures_of(title: str, found: Mapping[str, Sequence[int]]) -> list[Figure]:
    """The median of every searcher, and how many seeds did not come to an end; ours over NSGA-II."""
    figures, median = [], {name: statistics.median(runs) for name, runs in found.items()}
    for name, runs in found.items():
        figures.append(Figure(f"{title}, {name}: queries to 99 % of the hyper-volume, median", median[name]))
        ended = sum(run >= MOST for run in runs)
        if ended:
            figures.append(Figure(f"{title}, {name}: ended at {MOST} queries without", ended, "seeds"))
    ours = {name: value for name, value in median.items() if name not in ("nsga2", "random")}
    best = min(ours, key=ours.__getitem__)
    share = ours[best] / median["nsga2"]
    figures.append(Figure(f"{title}: queries of {best} over nsga2", share, "x", "<= 0.5"))
    return figures


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/fronts.json"))
    arguments.add_argument("--seeds", type=int, default=50)
    options = arguments.parse_args()
    macro = options.data / "nas_bench_macro/nas-bench-macro_cifar10.json"
    cells = options.data / "nb201/nb201_joined.parquet"
    if not (macro.exists() and cells.exists()):
        print(f"skipped: {macro} and {cells} are not there; give the folder of both")
        return
    records, figures = Records(options.records), []
    tables = ((read_nas_bench_macro(macro), MACRO), (read_nas_bench_201(cells, "in16"), CELLS))
    for table, names in ((table, names) for table, all_names in tables for names in all_names):
        title = f"{table.name}, {' and '.join(names)}"
        found = {}
        for name, make in SEARCHERS.items():
            piece = f"{title}, {name}, {options.seeds} seeds, {MOST} at most"
            found[name] = records.once(
                piece, lambda t=table, n=names, m=make: judged(t, n, m, options.seeds)
            )["queries"]
        figures += figures_of(title, found)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
