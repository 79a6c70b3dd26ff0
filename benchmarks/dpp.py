"""DPP-Net's progressive search end to end on Fashion-MNIST, beside random search of equal cost.

Per seed one design by each strategy, of the space `dense`, every arch trained for a short while; the volume
that each front of error and latency dominates, up to one corner beyond all. Of the first seed's front the
points are picked: trained to the end by the recipe of the MobileNetV2 and CondenseNet beside them, exported
and measured. Designs and picks are in the work folder and go on where they were.

    python benchmarks/dpp.py --data ../shared/data/fashion_mnist --json dpp.json
"""

from __future__ import annotations

from pathlib import Path

from harness import Figure, data_parser, part_of, publish

from netsmith import pareto
from netsmith.budget import Budget
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compare import compared
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.settings import Settings

STRATEGIES = ("dpp", "random")
Point = tuple[float, float]


def point(result: dict[str, float]) -> Point:
    """Test error and measured latency of a network that was trained to the end."""
    return 1 - result["accuracy_exported"], result["latency_ms"]


def main() -> None:
    arguments = data_parser(__doc__ or "", "dpp")
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--latency", type=float, default=0.6)
    arguments.add_argument("--images", type=int, default=27000)
    arguments.add_argument("--budget", default="quick")
    arguments.add_argument("--epochs", type=int, default=6, help="of every final training")
    arguments.add_argument("--points", type=int, default=8, help="of the front that are trained to the end")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    data = part_of(options.data, options.images, options.work / "part.npz")
    designs: dict[tuple[str, int], Design] = {}
    for seed in range(options.seeds):
        for strategy in STRATEGIES:
            asked = Settings(
                str(data), options.device, options.latency, budget=options.budget, seed=seed, space="dense",
                strategy=strategy, objectives="error,latency", epochs=options.epochs,
                baselines="full" if (strategy, seed) == ("dpp", 0) else "none",
            )  # fmt: skip
            designs[strategy, seed] = run(asked, options.work / f"{strategy}-{seed}")
    first = designs["dpp", 0]
    picked = [trained(first.folder, digest) for digest in spread(first, options.points)]
    publish(figures_of(designs, first, picked), options.json)


def spread(design: Design, most: int) -> list[str]:
    """The digests of at most so many points of a front, the fastest and the slowest among them."""
    digests = [str(item["digest"]) for item in design.front]
    step = max(1.0, (len(digests) - 1) / max(1, most - 1))
    return list(dict.fromkeys(digests[round(i * step)] for i in range(min(most, len(digests)))))


def trained(folder: Path, digest: str) -> Point:
    return point(pick(folder, Budget(), digest=digest).result)


def figures_of(designs: dict[tuple[str, int], Design], first: Design, picked: list[Point]) -> list[Figure]:
    rivals = {name: point(result) for name, result in first.result["baselines"].items()}
    kept = [picked[i] for i in pareto.front(picked)]
    beaten = [mine for mine in kept if any(pareto.dominates(other, mine) for other in rivals.values())]
    runs = {(r["strategy"], r["seed"]): r for r in compared(designs)["runs"]}
    seeds = sorted({seed for _, seed in runs})
    seconds = [sum(runs[strategy, seed]["seconds"] for seed in seeds) for strategy in STRATEGIES]
    return [
        Figure("networks of the front, trained and measured", len(kept), bar=">= 6"),
        Figure("of them beaten by a MobileNetV2 or a CondenseNet in both", len(beaten), bar="<= 0"),
        *(Figure(f"picked: {ms:.3g} ms, test error", 100 * error, "%") for error, ms in sorted(kept)),
        *(
            Figure(f"{name}: {ms:.3g} ms, test error", 100 * error, "%")
            for name, (error, ms) in rivals.items()
        ),
        *(
            Figure(
                f"hyper-volume of the judged front over random's, seed {seed}",
                runs["dpp", seed]["hypervolume"] / runs["random", seed]["hypervolume"],
                "x",
                ">= 1",
            )
            for seed in seeds
        ),
        Figure("seconds of progressive designs over random's", seconds[0] / seconds[1], "x"),
        Figure(
            "hours of the first design, its baselines included", first.result["total_seconds"] / 3600, "h"
        ),
    ]


if __name__ == "__main__":
    main()
