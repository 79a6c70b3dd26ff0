"""InstaNAS end to end on Fashion-MNIST and on CIFAR-10 images: a path for each image, against one for all.

Per data and seed a design by strategy `instance`, whose limit on average is a share of what MobileNetV2 of
width 1.0 takes, beside that one (with the first seed other widths too) and the best static path of the same
supernet, trained as long; and with the same weights the most common path, the best single one, and the paths
dealt out at random.
Designs are in the work folder and go on where they were.

    python benchmarks/instance.py --data ../shared/data/fashion_mnist --cifar ../shared/data/cifar10_jpg \
        --json instance.json
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Figure, Record, Records, data_parser, jpegs, part_of, publish

from netsmith.data import load
from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.pipeline import baselines
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.searching.reach import figures
from netsmith.pipeline.settings import Settings
from netsmith.spaces.mobilenetv2 import mobilenetv2

WIDEST = "mobilenetv2-1"
WIDTHS = (0.35, 0.5, 1.0)
ROUGH = 5
# Width, blocks and stride of each stage, where not the default. CIFAR-10 needs more passes: a supernet that
# halves the images in its first block trains on each in less than half the time.
STAGES = {"cifar": ((16, 1, 2), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 1))}


def main() -> None:
    arguments = data_parser(__doc__ or "", "instance")
    arguments.add_argument("--cifar", type=Path, default=Path("../shared/data/cifar10_jpg"))
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--share", type=float, default=0.55, help="of MobileNetV2's latency, the limit")
    arguments.add_argument("--images", type=int, default=7000, help="of the training part, at most")
    arguments.add_argument("--budget", default="quick")
    arguments.add_argument("--epochs", type=int, default=4, help="of each training on Fashion-MNIST")
    arguments.add_argument("--cifar-epochs", type=int, default=10, help="of each training on CIFAR-10")
    arguments.add_argument("--search-epochs", type=int, default=6)
    arguments.add_argument("--baselines", default="full")
    arguments.add_argument("--widths", type=float, nargs="+", default=WIDTHS, help="beside the first seed")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    records, found = Records(options.records), dict[str, list[Record]]()
    for name, path in (("fashion", options.data), ("cifar", options.cifar)):
        if not path.exists():
            print(f"skipped {name}: {path} is not there")
            continue
        target = options.work / f"{name}.npz"
        part = part_of if name == "fashion" else cifar_part
        data = part(path, options.images, target)
        wide = records.once(f"{name} {WIDEST}", partial(widest, data, options.device))
        found[name] = [
            records.once(f"{name} {seed}", partial(designed, options, name, data, seed, wide["latency_ms"]))
            for seed in range(options.seeds)
        ]
    publish([figure for name, pieces in found.items() for figure in figures_of(name, pieces)], options.json)


def cifar_part(folder: Path, images: int, path: Path) -> Path:
    """Write a part of CIFAR-10's training images, which are lossy here, and all test images, once."""
    if not path.exists():
        train, test = (jpegs(folder / f"cifar10_{part}_jpg.npz", most)
                       for part, most in (("train", images), ("test", 10_000)))  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=train[0], labels=train[1], test_images=test[0], test_labels=test[1])
    return path


def widest(data: Path, device: str) -> Record:
    """What MobileNetV2 of width 1.0 takes, untrained: the median of some rough measurements."""
    images, bench = load(str(data)).train, Bench(parse(device))
    plan = mobilenetv2(images.input_shape, len(images.label_names), 1.0)
    return {"latency_ms": statistics.median(figures(plan, bench)["latency_ms"] for _ in range(ROUGH))}


def designed(options: Any, name: str, data: Path, seed: int, wide_ms: float) -> Record:
    """The figures of one design and of what stands beside it."""
    settings = Settings(
        data=str(data), device=options.device, latency=options.share * wide_ms, budget=options.budget,
        strategy="instance", seed=seed, search_epochs=options.search_epochs, baselines=options.baselines,
        epochs=options.epochs if name == "fashion" else options.cifar_epochs, stages=STAGES.get(name),
    )  # fmt: skip
    baselines.WIDTHS = tuple(options.widths) if seed == 0 else (1.0,)
    return summary(run(settings, options.work / f"{name}-{seed}"))


def summary(design: Design) -> Record:
    result, told = design.result, design.result["routing"]
    names = ("accuracy_exported", "latency_ms", "latency_ms_p50", "latency_ms_p99", "latency_ms_predicted")
    beside = {
        name: {"accuracy_exported": each["accuracy_exported"], "latency_ms": each["latency_ms"]}
        for name, each in result["baselines"].items()
    }
    counted = (
        "choices_differ", "choices_differ_beyond_threshold", "images_near_threshold", "paths_used",
        "path_entropy_bits", "choosing_share", "timed_share", "constant", "single", "random", "bounds",
    )  # fmt: skip
    return {
        **{name: result[name] for name in names},
        "test_images": result["test_images"],
        "seconds": result["total_seconds"],
        "beside": beside,
        **{name: told[name] for name in counted},
    }


def figures_of(name: str, pieces: list[Record]) -> list[Figure]:
    """The figures of one data set over its seeds: means, and the spread of the differences."""
    own = [piece["accuracy_exported"] for piece in pieces]
    spread = 100 * statistics.stdev(own) if len(own) > 1 else 0.0
    rows = [
        Figure(f"{name}: test accuracy", 100 * statistics.mean(own), "%"),
        Figure(f"{name}: its standard deviation over seeds", spread, "points"),
        *(
            Figure(f"{name}: {words}", statistics.mean(piece[key] for piece in pieces), unit)
            for words, key, unit in (
                ("mean latency", "latency_ms", "ms"),
                ("median latency of images", "latency_ms_p50", "ms"),
                ("99th percentile", "latency_ms_p99", "ms"),
                ("paths used", "paths_used", ""),
                ("entropy of paths", "path_entropy_bits", "bits"),
                ("share of choosing", "choosing_share", ""),
            )
        ),
    ]
    rows += _against(name, pieces, WIDEST, spread)
    rows += _against(name, pieces, "static", spread)
    for key, bar in (("constant", f">= {spread:.3g}"), ("random", f">= {spread:.3g}"), ("single", None)):
        gains = [100 * (piece["accuracy_exported"] - piece[key]["accuracy"]) for piece in pieces]
        rows.append(Figure(f"{name}: above the {key} policy", statistics.mean(gains), "points", bar))
    beyond = sum(piece["choices_differ_beyond_threshold"] for piece in pieces)
    rows.append(Figure(f"{name}: choices unlike PyTorch's beyond 1e-4", beyond, "images", "<= 0"))
    near = sum(piece["images_near_threshold"] for piece in pieces)
    rows.append(Figure(f"{name}: images within 1e-4 of a threshold", near))
    off = max(abs(piece["latency_ms"] / piece["latency_ms_predicted"] - 1) for piece in pieces)
    rows.append(Figure(f"{name}: measured off predicted mean latency, at most", 100 * off, "%", "<= 10"))
    return rows


def _against(name: str, pieces: list[Record], other: str, spread: float) -> list[Figure]:
    """Latency over another network's, and accuracy above it; nothing where it was not trained."""
    if any(other not in piece["beside"] for piece in pieces):
        return []
    ratio = statistics.mean(piece["latency_ms"] / piece["beside"][other]["latency_ms"] for piece in pieces)
    gain = statistics.mean(
        100 * (piece["accuracy_exported"] - piece["beside"][other]["accuracy_exported"]) for piece in pieces
    )
    wide = other == WIDEST
    return [
        Figure(f"{name}: latency over that of {other}", ratio, "x", "<= 0.6" if wide else None),
        Figure(f"{name}: accuracy above {other}", gain, "points", f">= {-spread:.3g}" if wide else None),
    ]


if __name__ == "__main__":
    main()
