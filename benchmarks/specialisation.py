"""Whether devices get networks of their own: one search for several, and every network on every device.

On a part of Fashion-MNIST, over several seeds. Each device's budget is what MobileNetV2 x0.35 takes there, so
that about the same accuracy is aimed at on all. What was finished is in the records file.

    python benchmarks/specialisation.py --data ../shared/data/fashion_mnist --json specialisation.json
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from harness import Figure, Record, Records, data_parser, part_of, publish

from netsmith.devices.device import parse
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.answer import Design
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.several import run_several
from netsmith.spaces.mobilenetv2 import mobilenetv2

DEVICES = ("onnxruntime:threads=1", "onnxruntime:threads=1,precision=int8", "litert:threads=1")
SHAPE, CLASSES, WIDTH = (1, 28, 28), 10, 0.35


def budget(device: str) -> Record:
    """What MobileNetV2 takes on a device, in milliseconds."""
    bench, warning = calibrated(parse(device))
    if warning:
        print(warning)
    torch.manual_seed(0)
    network = Network(mobilenetv2(SHAPE, CLASSES, WIDTH)).eval()
    return {"latency_ms": bench.time({"it": (network, SHAPE, "float32")})["it"].median_ms}


def designed(asked: Sequence[Settings], folder: Path) -> Record:
    designs = run_several(asked, folder)
    return {
        "matrix": designs[0].result["matrix"],
        "kernels": {str(d.result["device"]): mean_kernel(d) for d in designs},
        "arch": {str(d.result["device"]): list(d.arch.choices) for d in designs},
        "search_seconds": designs[0].result["search_seconds"],
    }


def mean_kernel(design: Design) -> float:
    """The mean kernel of the network's blocks."""
    plan = json.loads((design.folder / "arch.json").read_text())["plan"]
    return statistics.mean(block["kernel"] for block in plan if block["op"] == "mbconv")


def figures_of(devices: Sequence[str], found: Sequence[Record]) -> list[Figure]:
    figures = []
    for device in devices:
        ratios, accuracies, others = [], [], []
        for record in found:
            here = [cell for cell in record["matrix"] if cell["device"] == device]
            own = next(cell for cell in here if cell["network"] == device)
            foreign = [cell for cell in here if cell["network"] != device]
            ratios.append(own["latency_ms"] / min(cell["latency_ms"] for cell in foreign))
            accuracies.append(100 * own["accuracy_exported"])
            others.append(100 * max(cell["accuracy_exported"] for cell in foreign))
        spread = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
        kernel = statistics.mean(record["kernels"][device] for record in found)
        figures += [
            Figure(f"{device}: its network over the fastest other, mean", statistics.mean(ratios), "x"),
            Figure(f"{device}: mean and spread", statistics.mean(ratios) + spread, "x", "<= 1"),
            Figure(f"{device}: accuracy of its network", statistics.mean(accuracies), "%"),
            Figure(f"{device}: accuracy of the best other", statistics.mean(others), "%"),
            Figure(f"{device}: mean kernel", kernel),
        ]
    seconds = statistics.mean(record["search_seconds"] for record in found)
    return [*figures, Figure("one search for all", seconds, "s")]


def main() -> None:
    arguments = data_parser(__doc__ or "", "specialisation")
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--images", type=int, default=10000)
    arguments.add_argument("--search-epochs", type=int, default=8)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records = Records(options.records)
    data = part_of(options.data, options.images, options.work / "part.npz")
    limits = {d: records.once(f"budget of {d}", lambda d=d: budget(d))["latency_ms"] for d in options.devices}
    found = []
    for seed in options.seeds:
        asked = [
            Settings(
                str(data), device, limits[device], seed=seed, budget="quick", baselines="none",
                epochs=options.epochs, search_epochs=options.search_epochs,
            )
            for device in options.devices
        ]  # fmt: skip
        folder = options.work / f"seed-{seed}"
        found.append(records.once(f"seed {seed}", lambda a=asked, f=folder: designed(a, f)))
    publish(figures_of(options.devices, found), options.json)


if __name__ == "__main__":
    main()
