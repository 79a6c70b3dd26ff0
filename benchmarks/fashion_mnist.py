"""The answer on all of Fashion-MNIST: designs against MobileNetV2 and random search, by measurement.

For each seed: MobileNetV2 of several widths, adapted to 28x28, trained; at the latency of those that
--budgets names a design, and random search of equal cost in the space of the same width (as many random archs
trained as the design's search and training cost, two at least, the best on validation kept). A MobileNetV2 is
compared with the most accurate design that is no slower (with the fastest where none is). All by the same
recipe for the same epochs; the design's training starts from its supernet's weights, which its search has
paid for, the others' from scratch. At the end every network is measured in one interleaved run.

What was finished is in the records file, so that the benchmark goes on where it stopped, also on another
day; latency does not depend on weights, so the records hold archs and accuracies alone.

    python benchmarks/fashion_mnist.py --data ../shared/data/fashion_mnist --budgets 0.35 0.5 --json out.json
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from harness import Figure, Record, Records, parser, publish
from rich.console import Console
from rich.table import Table

from netsmith.arch import Arch
from netsmith.devices.device import parse
from netsmith.latency.model import LatencyModel
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.design import run
from netsmith.pipeline.finish import finish, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import deployed, test_exported
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.mobilenetv2 import mobilenetv2

SHAPE, CLASSES = (1, 28, 28), 10
WIDTHS = (0.35, 0.5, 0.75, 1.0)
FASTER = 1.8


class Benchmark:
    def __init__(self, options: Any) -> None:
        self.data, self.folder, self.budget = str(options.data), options.work, options.budget
        self.epochs, self.search_epochs = options.epochs, options.search_epochs
        self.start, self.device = options.start, options.device
        self.records = Records(options.records)

    def settings(self, seed: int, **asked: Any) -> Settings:
        return Settings(
            data=self.data,
            device=self.device,
            budget=self.budget,
            seed=seed,
            epochs=self.epochs,
            search_epochs=self.search_epochs,
            start=self.start,
            baselines="none",
            **asked,
        )

    def family_latencies(self, widths: Sequence[float]) -> dict[float, float]:
        """The budget at each width: the measured latency of the MobileNetV2 of that width."""

        def measure() -> Record:
            timed = time_plans(self.device, {str(w): family(w) for w in WIDTHS}, limit_s=40)
            return {name: round(value, 4) for name, value in timed.items()}

        known = self.records.once("latency_ms of the family", measure)
        return {width: known[str(width)] for width in widths}

    def mobilenet(self, width: float, seed: int) -> Record:
        def make() -> Record:
            name = f"mobilenetv2-{width:g}"
            return self._trained(f"{name}-{seed}", self.settings(seed), name, [family(width)])

        return self.records.once(f"mobilenetv2 {width:g} seed {seed}", make)

    def design(self, width: float, seed: int, latency_ms: float) -> Record:
        def make() -> Record:
            answer = run(self.settings(seed, latency=latency_ms), self._design_folder(width, seed))
            result = answer.result
            described = json.loads((answer.folder / "arch.json").read_text())
            return {
                "accuracy": result["accuracy_exported"],
                "validation": result["validation_accuracy"],
                "plan": described["plan"],
                "space_width": result["width"],
                "choices": result["arch"]["choices"],
                "latency_ms": result["latency_ms"],
                "latency_ms_predicted": result["latency_ms_predicted"],
                "budget_met": result["budget_met"],
                "seconds": result["total_seconds"],
                "search_seconds": result["search_seconds"],
                "train_seconds": result["train_seconds"],
                "profile_seconds": result["profile_seconds"],
            }

        return self.records.once(f"design at {width:g} seed {seed}", make)

    def random(self, width: float, seed: int, designed: Record, latency_ms: float) -> Record:
        """As many random archs near the same limit as the design's search and training paid for."""

        def make() -> Record:
            number = max(2, round(1 + designed["search_seconds"] / designed["train_seconds"]))
            folder = self._design_folder(width, seed)
            with DesignFolder(folder, self.settings(seed, latency=latency_ms)) as opened:
                work = Work(opened, self.data, Silent())
                space = work.space_of(designed["space_width"])
                model = LatencyModel.from_dict(opened.journal.last("profile")["model"])
                costs, rng = AdditiveCost(*model.costs(space)), Random(seed)
            limit = 0.98 * latency_ms
            archs = [Arch(space.id, costs.sample(rng, limit, 0.9 * limit)) for _ in range(number)]
            plans = [space.plan(arch) for arch in archs]
            return self._trained(f"random-{width:g}-{seed}", self.settings(seed), "random", plans)

        return self.records.once(f"random at {width:g} seed {seed}", make)

    def _design_folder(self, width: float, seed: int) -> Path:
        return self.folder / f"design-{width:g}-{seed}"

    def _trained(self, folder: str, settings: Settings, name: str, plans: Sequence[Plan]) -> Record:
        """Train the plans from scratch and test the one that is best on validation."""
        with DesignFolder(self.folder / folder, settings) as opened:
            work = Work(opened, self.data, Silent())
            done = [
                finish(work, f"{name}-{i}", name, plan, training_recipe(work, plan), arch=None, start=None)
                for i, plan in enumerate(plans)
            ]
            best = max(done, key=lambda network: network.validation_accuracy)
            tested = test_exported(work.bench.device, best.model, work.splits.test)
        return {
            "accuracy": tested.accuracy,
            "validation": best.validation_accuracy,
            "plan": best.plan.to_list(),
            "trained": len(plans),
            "train_seconds": sum(network.train_seconds for network in done),
        }


def family(width: float) -> Plan:
    return mobilenetv2(SHAPE, CLASSES, width)


def time_plans(device: str, plans: dict[str, Plan], limit_s: float) -> dict[str, float]:
    """Medians of all plans in one interleaved run, with their preprocessing, from pixels.

    They are as of the machine's best known speed, like the latencies of the designs.
    """
    bench, _ = calibrated(parse(device))
    subjects = {n: (deployed(p, (0.5,), (0.5,)), p.input_shape, "uint8") for n, p in plans.items()}
    return {name: timed.median_ms for name, timed in bench.time(subjects, limit_s=limit_s).items()}


def mean_spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def summarise(rows: dict[tuple[str, float], list[Record]], latency: dict[str, float]) -> list[Figure]:
    """The figures that the project must show; rows are the records of all seeds of a network."""
    table = Table("network", "test accuracy, mean ± sd", "latency ms, mean", "seeds")
    figures = []
    accuracy: dict[tuple[str, float], tuple[float, float]] = {}
    speed: dict[tuple[str, float], float] = {}
    for (kind, width), records in rows.items():
        accuracy[kind, width] = mean_spread([r["accuracy"] for r in records])
        speed[kind, width] = statistics.mean(latency[r["name"]] for r in records)
        mean, sd = accuracy[kind, width]
        table.add_row(f"{kind} {width:g}", f"{100 * mean:.2f} ± {100 * sd:.2f} %",
                      f"{speed[kind, width]:.4f}", str(len(records)))  # fmt: skip
    Console(width=100).print(table)
    budgets = sorted(width for kind, width in rows if kind == "design")
    widths = sorted(width for kind, width in rows if kind == "mobilenetv2")
    for width in widths:
        no_slower = [b for b in budgets if speed["design", b] <= speed["mobilenetv2", width]]
        fastest = min(budgets, key=lambda b: speed["design", b])
        best = max(no_slower or [fastest], key=lambda b: accuracy["design", b])
        gain = accuracy["design", best][0] - accuracy["mobilenetv2", width][0]
        figures += [
            Figure(f"accuracy over MobileNetV2 {width:g}, design for the latency of {best:g}",
                   100 * gain, "points", ">= 0.0001"),
            Figure(f"its latency over that of MobileNetV2 {width:g}",
                   speed["design", best] / speed["mobilenetv2", width], "x", "<= 1"),
        ]  # fmt: skip
    for width in budgets:
        over = accuracy["design", width][0] - accuracy["random", width][0]
        spread = max(accuracy["design", width][1], accuracy["random", width][1])
        figures += [
            Figure(f"accuracy over random search of equal cost at {width:g}, less the spread",
                   100 * (over - spread), "points", ">= 0"),
            Figure(f"seconds of a design at {width:g}, the longest",
                   max(r["seconds"] for r in rows["design", width]), "s", None),
        ]  # fmt: skip
    widest = widths[-1]
    as_good = [speed["design", w] for w in budgets
               if accuracy["design", w][0] >= accuracy["mobilenetv2", widest][0]]  # fmt: skip
    faster = speed["mobilenetv2", widest] / min(as_good) if as_good else 0.0
    figures.append(Figure(f"faster at the accuracy of MobileNetV2 {widest:g}", faster, "x", f">= {FASTER}"))
    return figures


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/fashion_mnist"))
    arguments.add_argument("--work", type=Path, default=Path("runs/fashion_mnist"))
    arguments.add_argument(
        "--records", type=Path, default=Path("benchmarks/records/fashion_mnist-quick.json")
    )
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--budget", default="quick")
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--search-epochs", type=int, default=3)
    arguments.add_argument("--start", default="supernet", choices=["supernet", "scratch"])
    arguments.add_argument("--widths", type=float, nargs="+", choices=WIDTHS, default=list(WIDTHS))
    arguments.add_argument("--budgets", type=float, nargs="+", choices=WIDTHS, default=list(WIDTHS))
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    bench = Benchmark(options)
    budgets = bench.family_latencies(options.budgets)
    rows: dict[tuple[str, float], list[Record]] = {}
    for seed in options.seeds:
        made = {("mobilenetv2", width): bench.mobilenet(width, seed) for width in options.widths}
        for width, latency_ms in budgets.items():
            made["design", width] = designed = bench.design(width, seed, latency_ms)
            made["random", width] = bench.random(width, seed, designed, latency_ms)
        for (kind, width), record in made.items():
            named = {**record, "name": f"{kind} {width:g} seed {seed}"}
            rows.setdefault((kind, width), []).append(named)
    plans = {r["name"]: Plan.from_list(r["plan"]) for records in rows.values() for r in records}
    latency = time_plans(options.device, plans, limit_s=120)
    publish(summarise(rows, latency), options.json)


if __name__ == "__main__":
    main()
