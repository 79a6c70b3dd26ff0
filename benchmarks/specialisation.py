"""Whether devices want networks of their own at equal accuracy: of one pool, the fastest on each device.

On a part of Fashion-MNIST, one search for several devices; their budgets are a multiple of what MobileNetV2
x0.35 takes on each. Archs drawn under every device's budget and well below it are judged with the weights of
its supernet, all on the same images. Of those that are as accurate as the better third, each device's own is
the fastest measured of the fastest predicted. What is chosen is trained, and measured anew on every device
several times, so that being chosen favours none. What was finished is in the records file.

    python benchmarks/specialisation.py --data ../shared/data/fashion_mnist --json specialisation.json
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import torch
from harness import Figure, Record, Records, data_parser, part_of, publish

from netsmith.arch import Arch
from netsmith.devices.device import parse
from netsmith.errors import BudgetError
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.design import quest_of
from netsmith.pipeline.finish import deployable, export_network, finish, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.seek import CALIBRATION_BATCHES, Quest, run_search
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.several import folders_of, run_several
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.supernet.derive import OpenPaths
from netsmith.supernet.search import ProxylessSearch
from netsmith.train import evaluate, recalibrate

DEVICES = ("onnxruntime:threads=1", "onnxruntime:threads=1,precision=int8", "litert:threads=1")
SHAPE, CLASSES, WIDTH = (1, 28, 28), 10, 0.35
SHARES, DRAWN, TRIED, REPEATS = (1.0, 0.8, 0.6, 0.45, 0.35), 14, 10, 5


def budget(device: str) -> Record:
    """What MobileNetV2 takes on a device, in milliseconds."""
    bench, warning = calibrated(parse(device))
    if warning:
        print(warning)
    torch.manual_seed(0)
    network = Network(mobilenetv2(SHAPE, CLASSES, WIDTH)).eval()
    return {"latency_ms": bench.time({"it": (network, SHAPE, "float32")})["it"].median_ms}


@contextmanager
def searched(asked: Sequence[Settings], folder: Path) -> Iterator[tuple[list[Quest], ProxylessSearch]]:
    """What every device asked for, and the search that served them all, as its designs left it."""
    run_several(asked, folder)
    with ExitStack() as stack:
        works = [
            Work(stack.enter_context(DesignFolder(place, settings)), settings.data, Silent())
            for settings, place in zip(asked, folders_of(asked, folder), strict=True)
        ]
        quests = [quest_of(work) for work in works]
        yield quests, run_search(quests)


def pool(quests: Sequence[Quest], search: ProxylessSearch, seed: int) -> list[Arch]:
    """Archs drawn uniformly from what each device left open, close under several shares of its budget."""
    rng, found = Random(seed), {}
    for quest, aim in zip(quests, search.aims, strict=True):
        left_open = OpenPaths(aim.paths, AdditiveCost(*quest.costs))
        for share in SHARES:
            limit = share * quest.target
            with suppress(BudgetError):  # the open paths may not reach so low
                found |= {left_open.draw(rng, limit, 0.9 * limit): None for _ in range(DRAWN)}
    return list(found)


def accuracies(quest: Quest, search: ProxylessSearch, archs: Sequence[Arch]) -> Record:
    """The validation accuracy of every arch with the supernet's weights."""
    work = quest.work
    calibration = work.loader(work.splits.train, EVALUATION_BATCH, salt=3)
    validation = work.loader(work.splits.validation, EVALUATION_BATCH, shuffle=False)
    found = {}
    for arch in archs:
        network = search.extract(arch)
        recalibrate(network, calibration, CALIBRATION_BATCHES)
        found[arch.digest] = evaluate(network, validation).accuracy
    return found


def measured(quest: Quest, search: ProxylessSearch, archs: Sequence[Arch]) -> dict[str, float]:
    device, shape = quest.work.bench.device, quest.work.splits.input_shape
    files = {
        arch.digest: device.export(deployable(quest.work, search.extract(arch)), shape, input_type="uint8")
        for arch in archs
    }
    return {name: latency.median_ms for name, latency in quest.work.bench.time_files(files).items()}


def chosen(quest: Quest, search: ProxylessSearch, good: Sequence[Arch]) -> Record:
    """The fastest measured of the archs that are predicted the fastest."""
    cost = AdditiveCost(*quest.latency)
    fastest = sorted(good, key=lambda arch: cost.of(arch.choices))[:TRIED]
    times = measured(quest, search, fastest)
    best = min(fastest, key=lambda arch: times[arch.digest])
    kernels = [block.kernel for block in quest.space.plan(best).blocks if block.op == "mbconv"]
    return {"arch": best.to_dict(), "kernel": statistics.mean(kernels)}


def trained(quests: Sequence[Quest], search: ProxylessSearch, arch: Arch) -> Record:
    """The test accuracy of an arch on every device, trained as a design is."""
    first = quests[0]
    plan = first.space.plan(arch)
    recipe = training_recipe(first.work, plan)
    network = finish(
        first.work, f"own-{arch.digest}", "design", plan, recipe, arch=arch, start=search.extract(arch)
    )
    return {
        quest.work.bench.device.name: test_exported(
            quest.work.bench.device,
            export_network(quest.work, network.module, arch.digest),
            quest.work.splits.test,
        ).accuracy
        for quest in quests
    }


def compared(quest: Quest, search: ProxylessSearch, archs: Sequence[Arch]) -> Record:
    """The latency of every arch on a device, several times over."""
    rounds = [measured(quest, search, archs) for _ in range(REPEATS)]
    return {arch.digest: [times[arch.digest] for times in rounds] for arch in archs}


def figures_of(
    own: Mapping[str, Record], times: Mapping[str, Record], reached: Mapping[str, Record]
) -> list[Figure]:
    """Of each device: its arch, and how much faster it is than the fastest of the others'."""
    archs = {device: Arch.from_dict(record["arch"]).digest for device, record in own.items()}
    figures = []
    for device, arch in archs.items():
        figures += [
            Figure(f"{device}: mean kernel of its network", own[device]["kernel"]),
            Figure(f"{device}: its network there", statistics.mean(times[device][arch]), "ms"),
            Figure(f"{device}: its network's test accuracy", 100 * reached[arch][device], "%"),
        ]
        for other, foreign in archs.items():
            if foreign == arch:
                continue
            ratios = [b / a for a, b in zip(times[device][arch], times[device][foreign], strict=True)]
            mean, spread = statistics.mean(ratios), 2 * statistics.stdev(ratios)
            name = f"on {device}, network for {other}"
            figures += [
                Figure(f"{name}: time over its own", mean, "x"),
                Figure(f"{name}: the same less two standard deviations", mean - spread, "x", ">= 1"),
                Figure(f"{name}: test accuracy", 100 * reached[foreign][device], "%"),
            ]
    return figures


def main() -> None:
    arguments = data_parser(__doc__ or "", "specialisation")
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--images", type=int, default=10000)
    arguments.add_argument("--factor", type=float, default=2.0, help="of MobileNetV2's latency: the budgets")
    arguments.add_argument("--search-epochs", type=int, default=8)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records, seed = Records(options.records), options.seed
    data = part_of(options.data, options.images, options.work / "part.npz")
    limits = {d: records.once(f"budget of {d}", lambda d=d: budget(d))["latency_ms"] for d in options.devices}
    asked = [
        Settings(
            str(data), device, options.factor * limits[device], seed=seed, budget="quick", baselines="none",
            epochs=options.epochs, search_epochs=options.search_epochs,
        )
        for device in options.devices
    ]  # fmt: skip
    with searched(asked, options.work / f"seed-{seed}") as (quests, search):
        archs = pool(quests, search, seed)
        judged = records.once(f"pool, seed {seed}", lambda: accuracies(quests[0], search, archs))
        bar = sorted(judged.values())[-len(judged) // 3]
        good = [arch for arch in archs if judged[arch.digest] >= bar]
        on = dict(zip(options.devices, quests, strict=True))
        own = {
            device: records.once(f"chosen for {device}, seed {seed}", lambda q=quest: chosen(q, search, good))
            for device, quest in on.items()
        }
        different = list({Arch.from_dict(record["arch"]): None for record in own.values()})
        times = {
            device: records.once(
                f"compared on {device}, seed {seed}", lambda q=quest: compared(q, search, different)
            )
            for device, quest in on.items()
        }
        reached = {
            arch.digest: records.once(
                f"trained {arch.digest}, seed {seed}", lambda a=arch: trained(quests, search, a)
            )
            for arch in different
        }
        seconds = quests[0].work.journal.all("search_epoch")
    publish(
        [
            Figure("archs in the pool", len(archs)),
            Figure("of them accurate enough", len(good)),
            Figure("their least validation accuracy on the supernet", 100 * bar, "%"),
            *figures_of(own, times, reached),
            Figure("one search for all", sum(epoch["seconds"] for epoch in seconds), "s"),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
