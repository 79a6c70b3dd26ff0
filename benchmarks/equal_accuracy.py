"""Whether devices want different networks at equal accuracy, where every accuracy is known.

NAS-Bench-Macro published the CIFAR-10 accuracy of all 6,561 chains of its space, each the mean of three
trainings. The space is profiled on each device; among the chains of at least an accuracy those that are
predicted the fastest are measured, and the fastest of these is the device's own. What is chosen is then
measured anew on every device, several times, so that being chosen favours none. Accuracies are those
published, in float32; what int8 costs is not in them. What was finished is in the records file.

    python benchmarks/equal_accuracy.py --data ../shared/data/nas_bench_macro --json equal_accuracy.json
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from harness import Figure, Record, Records, parser, publish
from torch import nn

from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.latency.profile import profile
from netsmith.nn.network import Network
from netsmith.pipeline.calibration import calibrated
from netsmith.published.nas_bench_macro import macro, read_nas_bench_macro
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace

DEVICES = ("onnxruntime", "onnxruntime:precision=int8", "litert", "litert:precision=int8", "openvino")
FILE = "nas-bench-macro_cifar10.json"
TRIED, REPEATS = 10, 5
Archs = Mapping[str, float]
"""Accuracy in per cent by arch, a digit a layer."""


def choices(arch: str) -> tuple[int, ...]:
    return tuple(map(int, arch))


def measured(space: ChainSpace, bench: Bench, archs: Sequence[str]) -> dict[str, float]:
    subjects = {}
    for arch in archs:
        torch.manual_seed(0)
        network = nn.Sequential(Network(space.plan(space.arch(choices(arch))))).eval()
        subjects[arch] = (network, space.input_shape, "float32")
    return {arch: latency.median_ms for arch, latency in bench.time(subjects).items()}


def chosen(space: ChainSpace, device: str, archs: Archs, bars: Sequence[float]) -> Record:
    """The device's own arch for each accuracy, by the fastest measured of the fastest predicted."""
    bench, _ = calibrated(parse(device))
    model = profile(space, bench)
    cost = AdditiveCost(*model.costs(space))
    predicted = {arch: cost.of(choices(arch)) for arch in archs}
    found: Record = {"error": model.heldout.error, "spearman": model.heldout.spearman}
    for bar in bars:
        good = sorted((arch for arch in archs if archs[arch] >= bar), key=predicted.__getitem__)[:TRIED]
        times = measured(space, bench, good)
        found[f"{bar:g}"] = min(times, key=times.__getitem__)
    return found


def compared(space: ChainSpace, device: str, archs: Sequence[str]) -> Record:
    """The latency of every arch on the device, several times over."""
    bench, _ = calibrated(parse(device))
    rounds = [measured(space, bench, archs) for _ in range(REPEATS)]
    return {arch: [times[arch] for times in rounds] for arch in archs}


def figures_of(bar: float, own: Mapping[str, str], times: Mapping[str, Record], archs: Archs) -> list[Figure]:
    """Of each device: its arch against the fastest among those of the devices whose arch is another."""
    figures = []
    for device, arch in own.items():
        others = sorted({other for other in own.values() if other != arch})
        figures.append(Figure(f"{bar:g} %, {device}: arch {arch}, accuracy", archs[arch], "%"))
        if not others:
            continue
        pairs = [
            [mine / theirs for mine, theirs in zip(times[device][arch], times[device][other], strict=True)]
            for other in others
        ]
        nearest = max(pairs, key=statistics.mean)
        ratio, spread = statistics.mean(nearest), statistics.stdev(nearest)
        name = f"{bar:g} %, {device}: its arch over the fastest other's"
        figures += [
            Figure(name, ratio, "x"),
            Figure(f"{name}, with two standard deviations", ratio + 2 * spread, "x", "<= 1"),
        ]
    return figures


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/nas_bench_macro"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/equal_accuracy.json"))
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--accuracies", type=float, nargs="+", default=[90.0, 91.0, 92.0])
    options = arguments.parse_args()
    if not (options.data / FILE).exists():
        print(f"skipped: {options.data / FILE} is not there; give the folder of NAS-Bench-Macro")
        return
    records, space = Records(options.records), macro()
    table = read_nas_bench_macro(options.data / FILE)
    archs = {"".join(map(str, found)): 100 * (1 - row["error"]) for found, row in table.rows.items()}
    devices, bars = options.devices, options.accuracies
    own = {d: records.once(f"chosen for {d}", lambda d=d: chosen(space, d, archs, bars)) for d in devices}
    every = sorted({own[device][f"{bar:g}"] for device in devices for bar in bars})
    times = {d: records.once(f"compared on {d}", lambda d=d: compared(space, d, every)) for d in devices}
    figures = [Figure(f"{d}: prediction error", 100 * own[d]["error"], "%") for d in devices]
    for bar in bars:
        figures += figures_of(bar, {d: own[d][f"{bar:g}"] for d in devices}, times, archs)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
