"""Wide and shallow, or narrow and deep, at about equal latency: what the choice of a space's width rests on.

Archs of the mbconv space that keep the first blocks of each stage and skip the rest, at several widths, and
MobileNetV2 x0.35, trained alike for a short while on Fashion-MNIST and timed in one interleaved run.

    python benchmarks/width_or_depth.py --data ../shared/data/fashion_mnist --json width_or_depth.json
"""

from __future__ import annotations

from pathlib import Path

import torch
from harness import Figure, parser, publish

from netsmith.data import Loader, Splits, load, named_policy, split
from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.plan import Plan
from netsmith.spaces.mbconv import mbconv
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train import Recipe, train

SHAPE, CLASSES = (1, 28, 28), 10
# (width, blocks kept of each stage, option of the kept ones: 1 is k3 e6, 2 is k5 e3, 3 is k5 e6)
ARCHS = ((0.3, 3, 3), (0.4, 2, 1), (0.5, 3, 2), (0.6, 2, 2), (0.75, 1, 2), (1.0, 1, 2))


def thin(width: float, keep: int, option: int) -> Plan:
    space = mbconv(SHAPE, CLASSES, width=width)
    choices, in_stage = [], 0
    for options in space.edges:
        in_stage = in_stage + 1 if options[-1].op == "skip" else 0
        choices.append(len(options) - 1 if in_stage >= keep else option)
    return space.plan(space.arch(tuple(choices)))


def accuracy(plan: Plan, splits: Splits, images: int, epochs: int) -> float:
    torch.manual_seed(0)
    common = {"mean": splits.mean, "std": splits.std}
    batches = Loader(
        splits.train, 64, policy=named_policy("light", SHAPE), limit=images, drop_last=True, **common
    )
    validation = Loader(splits.validation, 256, shuffle=False, **common)
    return train(Network(plan), batches, validation, Recipe(epochs, 64), seed=0).last.accuracy


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/fashion_mnist"))
    arguments.add_argument("--images", type=int, default=18000, help="images of an epoch")
    arguments.add_argument("--epochs", type=int, default=3)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    plans = {"mobilenetv2 x0.35": mobilenetv2(SHAPE, CLASSES, 0.35)}
    plans |= {f"width {w:g}, {k} of a stage, option {o}": thin(w, k, o) for w, k, o in ARCHS}
    subjects = {name: (Network(plan).eval(), SHAPE, "float32") for name, plan in plans.items()}
    timed = Bench(parse("onnxruntime")).time(subjects)
    splits, figures = split(load(options.data), 0), []
    for name, plan in plans.items():
        reached = accuracy(plan, splits, options.images, options.epochs)
        figures += [
            Figure(f"{name}: latency", timed[name].median_ms, "ms"),
            Figure(f"{name}: validation accuracy", 100 * reached, "%"),
        ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
