"""DPP-Net end to end on Fashion-MNIST: a front of error, latency and size, beside known networks.

One design of the space `dense`, every arch trained for a short while. The points of its front are picked:
trained to the end, exported and measured, by the recipe of the MobileNetV2 and CondenseNets beside them that
keep the limit too. The design and its picks are in the work folder and go on where they were.

    python benchmarks/dpp.py --data ../shared/data/fashion_mnist --json dpp.json
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from harness import Figure, data_parser, part_of, publish

from netsmith import pareto
from netsmith.budget import Budget
from netsmith.pipeline.answer import Design
from netsmith.pipeline.baselines import GROWTHS, WIDTHS
from netsmith.pipeline.design import run
from netsmith.pipeline.finish import finish, report_figures, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.pick import pick
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.searching.reach import figures
from netsmith.pipeline.settings import Settings, merge, read_toml
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.spaces.condensenet import condensenet
from netsmith.spaces.mobilenetv2 import mobilenetv2

Point = tuple[float, float, float]


def point(result: dict[str, float]) -> Point:
    """Test error, measured latency and file size of a network that was trained to the end."""
    return 1 - result["accuracy_exported"], result["latency_ms"], result["size_bytes"]


def main() -> None:
    arguments = data_parser(__doc__ or "", "dpp")
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--latency", type=float, default=0.5)
    arguments.add_argument("--images", type=int, default=27000)
    arguments.add_argument("--budget", default="quick")
    arguments.add_argument("--epochs", type=int, default=4, help="of a final training")
    arguments.add_argument("--points", type=int, default=12, help="of the front that are trained to the end")
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    data = part_of(options.data, options.images, options.work / "part.npz")

    settings = Settings(
        data=str(data), device=options.device, latency=options.latency, budget=options.budget, space="dense",
        strategy="dpp", objectives="error,latency,size", epochs=options.epochs, baselines="none",
    )  # fmt: skip
    design = run(settings, options.work / "dpp-0")
    rivals = trained_rivals(design.folder)
    picks = [pick(design.folder, Budget(), digest=digest) for digest in spread(design, options.points)]
    publish(figures_of(design, rivals, picks), options.json)


def trained_rivals(folder: Path) -> dict[str, dict[str, Any]]:
    """What MobileNetV2 and CondenseNets within a design's limit reach, trained and measured in its folder."""
    (settings,) = merge(read_toml(folder / "design.toml"), {})
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data, Silent())
        work.read_images()
        shape, classes = work.splits.input_shape, work.splits.classes
        layers = [stage.layers for stage in work.dense_stages()]
        plans = {f"mobilenetv2-{width:g}": mobilenetv2(shape, classes, width) for width in WIDTHS} | {
            f"condensenet-{growth:g}": condensenet(
                shape, classes, layers, [growth * 2**i for i in range(len(layers))]
            )
            for growth in GROWTHS
        }
        kept = work.once("rivals", partial(within, work, plans))["names"]
        return {name: work.once("rival", partial(rival, work, name, plans[name]), name=name) for name in kept}


def within(work: Work, plans: dict[str, Plan]) -> dict[str, list[str]]:
    """The names of the plans that seem to keep the limit."""
    return {"names": [n for n, plan in plans.items() if not work.budget.broken(figures(plan, work.bench))]}


def rival(work: Work, name: str, plan: Plan) -> dict[str, Any]:
    network = finish(work, name, name, plan, training_recipe(work, plan), arch=None, start=None)
    latency = work.bench.time_files({name: network.model})[name]
    return report_figures(work, network, latency, None)


def spread(design: Design, most: int) -> list[str]:
    """The digests of at most so many points of a front, the fastest and the slowest among them."""
    digests = [str(item["digest"]) for item in design.front]
    step = max(1.0, (len(digests) - 1) / max(1, most - 1))
    return list(dict.fromkeys(digests[round(i * step)] for i in range(min(most, len(digests)))))


def shown(name: str, point: Point) -> Figure:
    error, ms, size = point
    return Figure(f"{name}: {ms:.3g} ms, {size / 1000:.0f} kB, test error", 100 * error, "%")


def figures_of(design: Design, beside: dict[str, dict[str, Any]], picks: list[Design]) -> list[Figure]:
    rivals = {name: point(result) for name, result in beside.items()}
    picked = [point(each.result) for each in picks]
    kept = [picked[i] for i in pareto.front(picked)]
    beaten = [mine for mine in kept if any(pareto.dominates(other, mine) for other in rivals.values())]
    trained = [*beside.values(), *(each.result for each in picks)]
    whole = design.result["total_seconds"] + sum(each["train_seconds"] for each in trained)
    return [
        Figure("networks of the front, trained and measured", len(kept), bar=">= 6"),
        Figure("of them beaten by a MobileNetV2 or a CondenseNet in all three", len(beaten), bar="<= 0"),
        Figure(
            "of them beaten in error and latency alone",
            sum(any(pareto.dominates(other[:2], mine[:2]) for other in rivals.values()) for mine in kept),
        ),
        *(shown(f"picked {i}", mine) for i, mine in enumerate(sorted(kept), 1)),
        *(shown(name, rival) for name, rival in rivals.items()),
        Figure("hours of the first design with its picks and their rivals", whole / 3600, "h", "<= 2"),
    ]


if __name__ == "__main__":
    main()
