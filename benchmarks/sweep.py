"""The across-stack sweep of three networks on part of Fashion-MNIST, on runtimes with one thread and two.

A VGG-like, a ResNet-like and a MobileNetV2 are trained by one recipe, each a finished design in the work
folder, and swept by `netsmith sweep`'s own code: weight pruning, patterns n:m and channel pruning at three
strengths, in float32 and int8, every network trained on for as many epochs. Beside the runtimes stands
PyTorch on compressed sparse rows, the one that leaves zeros out. The figures are each network's gains, under
the same conditions otherwise, and whether the published finding (Turner et al. 2018) holds. Designs and
sweeps go on where they were; every point is in `sweep.json` of each folder, with a page, and in the records.

    python benchmarks/sweep.py --data ../shared/data/fashion_mnist --json sweep.json
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness import Figure, Record, Records, data_parser, part_of, publish

from netsmith.pipeline.answer import Design
from netsmith.pipeline.conclude import answer_of, write_answer
from netsmith.pipeline.finish import finish, report_figures, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.sweeping.grid import Grid
from netsmith.pipeline.sweeping.sweep import run_sweep
from netsmith.pipeline.work import Work
from netsmith.plan import Block, Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mobilenetv2 import mobilenetv2

Shape = tuple[int, int, int]
HALF = 0.5
RECORDED = ("networks", "points", "finding", "warnings")
WORDS = {
    "weights": "weight pruning", "pattern": "patterns n:m", "channels": "channel pruning", "int8": "int8",
    "threads": "a second thread",
}  # fmt: skip


def vgg(shape: Shape, classes: int, width: int = 24) -> Plan:
    """Pairs of 3x3 convolutions, twice as wide at half the resolution (Simonyan and Zisserman 2015)."""
    rows = [(width * 2**stage, 2 if stage and not i else 1) for stage in range(3) for i in range(2)]
    blocks: list[Block] = []
    for out, stride in rows:
        before = (shape[0], *shape[1:]) if not blocks else (blocks[-1].out_channels, *blocks[-1].output_size)
        blocks.append(Block("conv", before[0], out, *before[1:], kernel=3, stride=stride))
    return headed(blocks, classes, 8 * width)


def resnet(shape: Shape, classes: int, width: int = 16) -> Plan:
    """Basic blocks with a shortcut, and one without where it halves (after He et al. 2016)."""
    blocks = [Block("conv", shape[0], width, *shape[1:], kernel=3)]
    for stage in range(3):
        out = width * 2**stage
        if stage:
            last = blocks[-1]
            size = last.output_size
            blocks.append(Block("basic", last.out_channels, out, *size, kernel=3, stride=2, hidden=out))
        size = blocks[-1].output_size
        blocks.append(Block("basic", out, out, *size, kernel=3, hidden=out, shortcut=True))
    return headed(blocks, classes, 8 * width)


def headed(blocks: Sequence[Block], classes: int, hidden: int) -> Plan:
    last = blocks[-1]
    return Plan((*blocks, Block("head", last.out_channels, classes, *last.output_size, hidden=hidden)))


NETWORKS = {
    "VGG-like": vgg,
    "ResNet-like": resnet,
    "MobileNetV2": lambda shape, classes: mobilenetv2(shape, classes, HALF),
}


def main() -> None:
    arguments = data_parser(__doc__ or "", "sweep")
    arguments.add_argument("--devices", default="onnxruntime,openvino,litert,torch:weights=csr")
    arguments.add_argument("--threads", default="1,2")
    arguments.add_argument("--kinds", default="weights,pattern,channels")
    arguments.add_argument("--strengths", default="0,0.25,0.5,0.75")
    arguments.add_argument("--images", type=int, default=12000)
    arguments.add_argument("--epochs", type=int, default=10, help="of the networks to begin with")
    arguments.add_argument("--tuning", type=int, default=5, help="epochs of each network of a sweep")
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    data = part_of(options.data, options.images, options.work / f"part-{options.images}.npz")
    devices = options.devices.split(",")
    grid = Grid.read(devices, threads=options.threads, kinds=options.kinds, strengths=options.strengths)
    records = Records(options.records)

    def swept(name: str) -> Record:
        base = trained(options.work / name, name, data, devices[0], options.epochs)
        found = run_sweep(base, grid, options.work / f"{name}-sweep", epochs=options.tuning)
        return {key: found[key] for key in RECORDED}

    sweeps = {name: records.once(name, partial(swept, name)) for name in options.networks}
    publish([figure for name, found in sweeps.items() for figure in figures_of(name, found)], options.json)


def trained(folder: Path, name: str, data: Path, device: str, epochs: int) -> Path:
    """Train a network from scratch and leave it as a finished design in ``folder``."""
    settings = Settings(data=str(data), device=device, budget="quick", epochs=epochs)
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data, Silent())
        if work.journal.last("result") is None:
            work.read_images()
            plan = NETWORKS[name](work.splits.input_shape, work.splits.classes)
            work.set_threads(plan)
            network = finish(work, name, name, plan, training_recipe(work, plan), arch=None, start=None)
            latency = work.bench.time_files({name: network.model})[name]
            *stem, head = plan.blocks
            space = ChainSpace(name, tuple(stem[:1]), tuple((block,) for block in stem[1:]), (head,))
            figures = report_figures(work, network, latency, None)
            result = answer_of(work, space, 1.0, figures, latency.wide, work.budget)
            write_answer(work, space, None, network, result)
            work.journal.write("result", digest="")
    Design.load(folder)
    return folder


def figures_of(name: str, found: dict[str, Any]) -> Iterator[Figure]:
    points = [p for p in found["points"] if not p["reason"]]
    whole = [p for p in points if p["kind"] == "whole" and p["precision"] == "float32"]
    runtimes = {p["runtime"] for p in points}
    yield Figure(f"{name}: points measured of {len(found['points'])}", len(points))
    yield Figure(f"{name}: runtimes measured", len(runtimes), bar=">= 3")
    yield Figure(f"{name}: thread counts measured", len({p["threads"] for p in points}), bar=">= 2")
    yield Figure(f"{name}: test accuracy, whole, trained on", 100 * whole[0]["accuracy"], "%")
    for kind, gain in found["finding"]["gains"].items():
        words = WORDS.get(kind, kind)
        middle, low, high = gain["speed_up"]
        yield Figure(f"{name}: {words}, times as fast, median ({low:.2f} to {high:.2f})", middle)
        yield Figure(f"{name}: {words}, surely faster, of {gain['points']} points", gain["surely_faster"])
        if gain["most_as_accurate"]:
            best, low, high = gain["most_as_accurate"]
            yield Figure(f"{name}: {words}, at most, within 1 point ({low:.2f} to {high:.2f})", best)
        yield Figure(
            f"{name}: {words}, change of test accuracy, median", 100 * gain["accuracy_change"], "points"
        )
        if gain["stored"] and kind != "threads":
            yield Figure(f"{name}: {words}, file stored by gzip, of before", 100 * gain["stored"], "%")
    yield from together(name, whole[0], points)
    for p in whole:
        where = f"{name} on {p['runtime']}, {p['threads']} thread{'s' * (p['threads'] > 1)}"
        yield Figure(f"{where}: whole, float32", p["latency_ms"], "ms")
        alike = [
            other
            for other in points
            if (other["runtime"], other["threads"]) == (p["runtime"], p["threads"])
            and other["accuracy"] >= p["accuracy"] - 0.01
        ]
        best = min(alike, key=lambda other: float(other["latency_ms"]))
        words = f"{best['network']}, {best['precision']}"
        yield Figure(f"{where}: fastest within 1 point, {words}", best["latency_ms"], "ms")
    verdict = {"refuted": 0.0, "confirmed in part": 0.5, "confirmed": 1.0}
    if found["finding"]["verdict"] in verdict:
        yield Figure(
            f"{name}: the published finding is {found['finding']['verdict']}",
            verdict[found["finding"]["verdict"]],
        )


def together(name: str, whole: dict[str, Any], points: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """What channel pruning and int8 gain together where the whole was measured first, within half a point."""
    where = (whole["runtime"], whole["threads"])
    alike = [
        p["latency_ms"]
        for p in points
        if (p["kind"], p["precision"]) == ("channels", "int8")
        and (p["runtime"], p["threads"]) == where
        and p["accuracy"] >= whole["accuracy"] - 0.005
    ]
    title = f"{name}: channel pruning and int8 within 0.5 points, times as fast, {where[0]}"
    if alike:
        yield Figure(title, whole["latency_ms"] / min(alike), bar=">= 1.8" if name == "MobileNetV2" else None)


if __name__ == "__main__":
    main()
