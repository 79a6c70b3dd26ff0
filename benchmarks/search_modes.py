"""Which way of searching is better: what the defaults of a search rest on.

On a part of Fashion-MNIST, at one latency budget, over several seeds: supernet weights shared or own; the
gradient or the REINFORCE update; training from the supernet's weights or from scratch for the same epochs.
And on each trained supernet: what the path probabilities derive, against random search and evolution over the
supernet's accuracy, at equal numbers of evaluations, all within the budget.

    python benchmarks/search_modes.py --data ../shared/data/fashion_mnist --json search_modes.json
"""

from __future__ import annotations

import statistics
from pathlib import Path
from random import Random
from typing import Any

from harness import Figure, Record, Records, data_parser, part_of, publish
from rich.console import Console
from rich.table import Table

from netsmith.arch import Arch
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.design import quest_of, run
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.searching.choose import Chooser
from netsmith.pipeline.searching.seek import run_search
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.search.evolution import Evolution
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.supernet.derive import derive

MODES: dict[str, dict[str, str]] = {
    "shared": {},
    "own": {"weights": "own"},
    "reinforce": {"update": "reinforce"},
    "scratch": {"start": "scratch"},
}


def design(settings: Settings, folder: Path) -> Record:
    result = run(settings, folder).result
    names = ("accuracy_exported", "validation_accuracy", "latency_ms", "search_seconds", "train_seconds")
    return {name: result[name] for name in names} | {"budget_met": result["budget_met"]}


def searchers(settings: Settings, folder: Path, evaluations: int) -> Record:
    """The least supernet error that each way finds in ``evaluations`` archs within the budget."""
    with DesignFolder(folder, settings) as opened:
        quest = quest_of(Work(opened, settings.data, Silent()))
        space, target = quest.space, quest.target
        chooser = Chooser(quest, run_search([quest]))

        def draw(rng: Random) -> Arch:
            return chooser.open.draw(rng, target)

        def allowed(arch: Arch) -> bool:
            return arch in chooser.open and chooser.costs.of(arch.choices) <= target

        ways: dict[str, Searcher] = {
            "random": RandomSearch(draw, settings.seed),
            "evolution": Evolution(space, draw, settings.seed, allowed=allowed, population=8, tournament=3),
        }
        found: dict[str, float] = {}
        for name, searcher in ways.items():
            errors = []
            for _ in range(evaluations):
                trial = chooser.score(searcher.ask(), stage=f"compare-{name}")
                searcher.tell(trial)
                errors.append(trial.figures["error"])
            found[name] = min(errors)
        archs = derive(chooser.paths, chooser.costs, target, evaluations, settings.seed)
        found["derived"] = min(chooser.score(arch).figures["error"] for arch in archs)
        found["derived, evaluations"] = float(len(archs))
    return found


def summarise(rows: dict[str, list[Record]], found: list[Record]) -> list[Figure]:
    table = Table("mode", "test accuracy, mean", "sd", "latency ms", "search s", "seeds")
    accuracy: dict[str, list[float]] = {}
    for mode, records in rows.items():
        accuracy[mode] = [r["accuracy_exported"] for r in records]
        means = [statistics.mean(r[n] for r in records) for n in ("latency_ms", "search_seconds")]
        sd = statistics.stdev(accuracy[mode]) if len(records) > 1 else 0.0
        table.add_row(mode, f"{100 * statistics.mean(accuracy[mode]):.2f} %", f"{100 * sd:.2f}",
                      f"{means[0]:.3f}", f"{means[1]:.0f}", str(len(records)))  # fmt: skip
    Console(width=100).print(table)
    figures = []
    for mode, values in accuracy.items():
        if mode != "shared":
            less = statistics.mean(a - b for a, b in zip(values, accuracy["shared"], strict=True))
            figures.append(Figure(f"test accuracy, {mode} less default", 100 * less, "points"))
    for other in ("random", "evolution"):
        gain = statistics.mean(record[other] - record["derived"] for record in found)
        figures.append(Figure(f"supernet error, {other} over derived", 100 * gain, "points", ">= 0"))
    return figures


def main() -> None:
    arguments = data_parser(__doc__ or "", "search_modes")
    arguments.add_argument("--images", type=int, default=10000)
    arguments.add_argument("--latency", type=float, default=0.25)
    arguments.add_argument("--search-epochs", type=int, default=8)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--evaluations", type=int, default=24)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records = Records(options.records)
    data = part_of(options.data, options.images, options.work / "part.npz")
    rows: dict[str, list[Record]] = {mode: [] for mode in ["shared", *options.modes]}
    found: list[Record] = []
    for seed in options.seeds:
        common: dict[str, Any] = {
            "data": str(data), "latency": options.latency, "seed": seed, "budget": "quick",
            "baselines": "none", "epochs": options.epochs, "search_epochs": options.search_epochs,
        }  # fmt: skip
        for mode in rows:
            settings, folder = Settings(**common, **MODES[mode]), options.work / f"{mode}-{seed}"
            made = records.once(f"{mode} seed {seed}", lambda s=settings, f=folder: design(s, f))
            rows[mode].append(made)
        settings, folder = Settings(**common), options.work / f"shared-{seed}"
        made = records.once(
            f"searchers seed {seed}",
            lambda s=settings, f=folder: searchers(s, f, options.evaluations),
        )
        found.append(made)
    publish(summarise(rows, found), options.json)


if __name__ == "__main__":
    main()
