"""DPP-Net's progressive search beside random search of equal trainings, on Fashion-MNIST.

Per seed one design by each strategy, of the space `dense`, every arch trained for a short while; the volume
that each front of error, latency and size dominates, up to one corner beyond both. Only fronts count: what
is chosen is trained for one epoch. A finished seed is in the records file, designs in the work folder go on
where they were.

    python benchmarks/dpp_random.py --data ../shared/data/fashion_mnist --json dpp_random.json
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness import Figure, Record, Records, data_parser, part_of, publish

from netsmith import pareto
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compare import MARGIN
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings

STRATEGIES = ("dpp", "random")
OBJECTIVES = {"error": "error", "latency": "latency_ms", "size": "size_bytes"}


def compared(made: Callable[[str], Design]) -> Record:
    """Return how the design of the progressive search compares with the random one."""
    fronts, seconds = [], []
    for strategy in STRATEGIES:
        design = made(strategy)
        fronts.append([[point["figures"][name] for name in OBJECTIVES.values()] for point in design.front])
        seconds.append(design.result["total_seconds"])
    corner = [MARGIN * max(column) for column in zip(*(p for front in fronts for p in front), strict=True)]
    volumes = [pareto.hypervolume(front, corner) for front in fronts]
    return {"volume": volumes[0] / volumes[1], "seconds": seconds[0] / seconds[1]}


def figures_of(records: list[Record]) -> list[Figure]:
    return [
        Figure(f"hyper-volume of the judged front over random's, seed {seed}", record["volume"], "x", ">= 1")
        for seed, record in enumerate(records)
    ] + [
        Figure(f"seconds of the design over random's, seed {seed}", record["seconds"], "x")
        for seed, record in enumerate(records)
    ]


def main() -> None:
    arguments = data_parser(__doc__ or "", "dpp_random")
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--latency", type=float, default=0.5)
    arguments.add_argument("--images", type=int, default=27000)
    arguments.add_argument("--budget", default="quick")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    data = part_of(options.data, options.images, options.work / "part.npz")
    kept = Records(options.records)

    def made(seed: int, strategy: str) -> Design:
        settings = Settings(
            data=str(data), device=options.device, latency=options.latency, budget=options.budget,
            space="dense", strategy=strategy, seed=seed, objectives=",".join(OBJECTIVES), epochs=1,
            baselines="none",
        )  # fmt: skip
        return run(settings, options.work / f"{strategy}-{seed}")

    seeds = range(options.seeds)
    publish(
        figures_of([kept.once(f"seed {seed}", partial(compared, partial(made, seed))) for seed in seeds]),
        options.json,
    )


if __name__ == "__main__":
    main()
