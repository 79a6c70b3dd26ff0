"""Whether devices get networks of their own: one search for several, and every network on every device.

On a part of Fashion-MNIST. Each device's budget is what MobileNetV2 x0.35 takes there, times several factors,
so that each device has a line of accuracy over latency of its own networks. A network of another device lies
below that line where specialising pays: the device's own are as accurate at a lower latency. What was
finished is in the records file.

    python benchmarks/specialisation.py --data ../shared/data/fashion_mnist --json specialisation.json
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import product
from math import log2
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


def cells(found: Sequence[Record], network: str, device: str) -> tuple[list[float], list[float]]:
    """Log2 of the milliseconds on ``device`` and per cents of accuracy, of the networks for ``network``."""
    here = [c for r in found for c in r["matrix"] if (c["network"], c["device"]) == (network, device)]
    return [log2(c["latency_ms"]) for c in here], [100 * c["accuracy_exported"] for c in here]


def below(slope: float, intercept: float, times: list[float], accuracies: list[float]) -> list[float]:
    """How far each network lies below the line, in points."""
    return [slope * t + intercept - a for t, a in zip(times, accuracies, strict=True)]


def figures_of(devices: Sequence[str], found: Sequence[Record]) -> list[Figure]:
    """The line of each device's own networks, and where those of the others lie beside it."""
    figures = []
    for device in devices:
        own_times, own_accuracies = cells(found, device, device)
        line = statistics.linear_regression(own_times, own_accuracies)
        off = partial(below, line.slope, line.intercept)
        kernel = statistics.mean(record["kernels"][device] for record in found)
        figures += [
            Figure(f"{device}: accuracy gained by twice the time", line.slope, "points"),
            Figure(f"{device}: mean kernel", kernel),
        ]
        for other in devices:
            if other == device:
                continue
            times, accuracies = cells(found, other, device)
            slower = 2 ** statistics.mean(t - own for t, own in zip(times, own_times, strict=True))
            lost = off(times, accuracies)
            variance = statistics.variance(lost) + statistics.variance(off(own_times, own_accuracies))
            name = f"on {device}, networks for {other}"
            figures += [
                Figure(f"{name}: time over its own", slower, "x"),
                Figure(f"{name}: accuracy lost at equal time", statistics.mean(lost), "points", ">= 0"),
                Figure(f"{name}: standard error of that", (variance / len(lost)) ** 0.5, "points"),
            ]
    seconds = statistics.mean(record["search_seconds"] for record in found)
    return [*figures, Figure("one search for all", seconds, "s")]


def main() -> None:
    arguments = data_parser(__doc__ or "", "specialisation")
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--images", type=int, default=10000)
    arguments.add_argument("--search-epochs", type=int, default=8)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--factors", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records = Records(options.records)
    data = part_of(options.data, options.images, options.work / "part.npz")
    limits = {d: records.once(f"budget of {d}", lambda d=d: budget(d))["latency_ms"] for d in options.devices}
    found = []
    for seed, factor in product(options.seeds, options.factors):
        asked = [
            Settings(
                str(data), device, factor * limits[device], seed=seed, budget="quick", baselines="none",
                epochs=options.epochs, search_epochs=options.search_epochs,
            )
            for device in options.devices
        ]  # fmt: skip
        name = f"{factor:g} times the budget, seed {seed}"
        folder = options.work / name.replace(" ", "-").replace(",", "")
        found.append(records.once(name, lambda a=asked, f=folder: designed(a, f)))
    publish(figures_of(options.devices, found), options.json)


if __name__ == "__main__":
    main()
