"""Architecture, channels and precisions by one search, against one after the other, on part of Fashion-MNIST.

Every way has the same limit of latency on ONNX Runtime and the same number of epochs. ``joint`` is strategy
'apq' on the int8 device. ``in turn`` designs in float32 for a limit that is looser by what int8 may win back,
with --compress, and then chooses which layers of its int8 file stay float32; where no choice keeps the limit
and the float32 file does, that is the answer. ``float32`` is a design for the limit itself, and
``compressed`` the same with --compress. Seconds are of whole runs on a machine that others may use. What was
finished is in the records file.

    OMP_NUM_THREADS=1 python benchmarks/joint.py --json benchmarks/results/joint.json
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from harness import Figure, Record, Records, data_parser, part_of, publish

from netsmith.errors import BudgetError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression.compressed import compression
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings

FLOATING, INT8 = "onnxruntime:threads=1", "onnxruntime:threads=1,precision=int8"
STAGES = ((16, 2, 2), (24, 2, 2), (40, 2, 1))
LIMIT_MS = 0.14
# What a float32 network may take that int8 is to bring under the limit: large ones win about as much.
LOOSER = 1.1
WAYS = ("joint", "in turn", "float32", "compressed")


def main() -> None:
    options = data_parser(__doc__ or "", "joint")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options.add_argument("--images", type=int, default=6000)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--search-epochs", type=int, default=4)
    asked = options.parse_args()
    data = part_of(asked.data, asked.images, asked.work / "part.npz")
    shared: dict[str, Any] = {
        "data": str(data), "stages": STAGES, "width": 1.0, "budget": "quick", "baselines": "none",
        "threads": 1, "epochs": asked.epochs, "search_epochs": asked.search_epochs,
    }  # fmt: skip
    records = Records(asked.records)
    runs: dict[str, list[Record]] = {way: [] for way in asked.ways}
    for seed in range(asked.seeds):
        for way in asked.ways:
            folder = asked.work / f"{way.replace(' ', '-')}-{seed}"
            name = f"{way}, {asked.images} images, seed {seed}"
            made = records.once(name, lambda w=way, s=seed, f=folder: MAKERS[w]({**shared, "seed": s}, f))
            runs[way].append(made)
    publish(figures_of(runs), asked.json)


def figures_of(runs: dict[str, list[Record]]) -> list[Figure]:
    """Return the means of each way, and what joint design gains."""
    found = []
    for way, made in runs.items():
        found += [
            Figure(f"{way}: test accuracy of the file, mean", 100 * mean(made, "accuracy"), "%"),
            Figure(f"{way}: latency, greatest", max(run["latency_ms"] for run in made), "ms",
                   f"<= {LIMIT_MS}"),
            Figure(f"{way}: seconds, mean", mean(made, "seconds"), "s"),
        ]  # fmt: skip
    for better, worse in (("joint", "in turn"), ("joint", "float32"), ("compressed", "float32")):
        if better not in runs or worse not in runs:
            continue
        gains = [
            100 * (a["accuracy"] - b["accuracy"]) for a, b in zip(runs[better], runs[worse], strict=True)
        ]
        found.append(Figure(f"{better} over {worse}, mean", statistics.mean(gains), "points", ">= 0"))
        found.append(Figure(f"{better} over {worse}, least", min(gains), "points"))
        ratio = mean(runs[better], "seconds") / mean(runs[worse], "seconds")
        found.append(Figure(f"{better}: seconds over those of {worse}", ratio, "x"))
    return found


def mean(runs: list[Record], name: str) -> float:
    return statistics.mean(run[name] for run in runs)


def joint(shared: dict[str, Any], folder: Path) -> Record:
    return record(designed(folder, shared, device=INT8, latency=LIMIT_MS, strategy="apq"))


def in_turn(shared: dict[str, Any], folder: Path) -> Record:
    before = designed(folder, shared, device=FLOATING, latency=LOOSER * LIMIT_MS, compress=True)
    asked = {
        "device": INT8, "latency": LIMIT_MS, "precision": "mixed", "budget": "quick", "baselines": "none"
    }  # fmt: skip
    try:
        after = run(compression(before.folder, asked), folder.with_name(f"{folder.name}-mixed"))
    except BudgetError:  # no precisions should keep it: the float32 file is what there is
        return record(before)
    if not after.budget_met and before.latency_ms <= LIMIT_MS:  # no precisions keep it: float32 is as good
        return record(before, after)
    return record(after, before)


def floating(shared: dict[str, Any], folder: Path) -> Record:
    return record(designed(folder, shared, device=FLOATING, latency=LIMIT_MS))


def compressed(shared: dict[str, Any], folder: Path) -> Record:
    return record(designed(folder, shared, device=FLOATING, latency=LIMIT_MS, compress=True))


MAKERS = {"joint": joint, "in turn": in_turn, "float32": floating, "compressed": compressed}


def designed(folder: Path, shared: dict[str, Any], **asked: Any) -> Design:
    return run(Settings.from_mapping({**shared, **asked}), folder)


def record(design: Design, *others: Design) -> Record:
    """What is compared of a design: the seconds with those of the others that its way takes."""
    result = design.result
    names = ("validation_accuracy", "latency_ms", "size_bytes", "macs", "params")
    return {
        **{name: result[name] for name in names},
        "budget_met": result["latency_ms"] <= LIMIT_MS,
        "accuracy": result["accuracy_exported"],
        "seconds": sum(each.result["total_seconds"] for each in (design, *others)),
    }


if __name__ == "__main__":
    main()
