"""Whether devices want networks of their own at equal accuracy: of one space, the fastest on each device.

A short chain on a part of Fashion-MNIST, in which kernels and expansions are what there is to choose. One
supernet is trained for all devices; archs drawn from the whole space are judged with its weights, and a
Gaussian process over them tells the accuracy of every arch, without the luck of one judgement. Of the archs
that are as accurate as the best twentieth, each device's own is the fastest there: the fastest predicted,
then the fastest measured of these. What is chosen is trained, and measured anew on every device several
times, so that being chosen favours none. Every seed does all of it again. At lower accuracies, for which
capacity is to be had cheaply everywhere, it is counted how many networks the devices' predictions choose.
What was finished is in the records file.

    python benchmarks/specialisation.py --data ../shared/data/fashion_mnist --json specialisation.json
"""

from __future__ import annotations

import itertools
import statistics
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from harness import Figure, Record, Records, data_parser, part_of, publish
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from netsmith.arch import Arch
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.design import quest_of
from netsmith.pipeline.finish import deployable, export_network, finish, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.searching.choose import CALIBRATION_BATCHES
from netsmith.pipeline.searching.seek import Quest, run_search
from netsmith.pipeline.searching.several import folders_of
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.search import ProxylessSearch
from netsmith.train import evaluate, recalibrate

DEVICES = ("onnxruntime:threads=1", "onnxruntime:threads=1,precision=int8", "litert:threads=1")
STAGES, WIDTH = ((24, 1, 2), (40, 2, 2), (80, 2, 2)), 0.75
QUANTILE, ROUNDS, TRIED, REPEATS = 0.95, 2, 10, 5
OTHERS = (0.5, 0.75, 0.95)  # of the archs that an accuracy aimed at leaves behind
EQUAL = 0.4  # points: twice what repeated trainings of one network differ by


@contextmanager
def searched(asked: Sequence[Settings], folder: Path) -> Iterator[tuple[list[Quest], ProxylessSearch]]:
    """What every device asks for, and the supernet that serves them all."""
    with ExitStack() as stack:
        works = [
            Work(stack.enter_context(DesignFolder(place, settings)), settings.data, Silent())
            for settings, place in zip(asked, folders_of(asked, folder), strict=True)
        ]
        quests = [quest_of(work) for work in works]
        yield quests, run_search(quests)


def accuracies(quest: Quest, search: ProxylessSearch, archs: Sequence[Arch]) -> Record:
    """The validation accuracy of archs with the supernet's weights, with their choices."""
    work = quest.work
    calibration = work.loader(work.splits.train, EVALUATION_BATCH, salt=3)
    validation = work.loader(work.splits.validation, EVALUATION_BATCH, shuffle=False)
    found = []
    for arch in archs:
        network = search.extract(arch)
        recalibrate(network, calibration, CALIBRATION_BATCHES)
        found.append([list(arch.choices), evaluate(network, validation).accuracy])
    return {"judged": found}


def fitted(space: ChainSpace, judged: Mapping[Arch, float]) -> dict[Arch, float]:
    """The accuracy of every arch of the space, as a Gaussian process tells it from those judged."""
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(2.0, (0.3, 30.0)) + WhiteKernel(1e-2, (1e-5, 1.0))
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    model.fit(np.array([space.encode(arch) for arch in judged]), np.array(list(judged.values())))
    every = [space.arch(choices) for choices in itertools.product(*map(range, space.sizes))]
    told = model.predict(np.array([space.encode(arch) for arch in every]))
    return dict(zip(every, told.tolist(), strict=True))


def fastest(quest: Quest, told: Mapping[Arch, float], bar: float) -> list[Arch]:
    """The archs at least as accurate as the bar that are predicted the fastest on a device."""
    cost = AdditiveCost(*quest.latency)
    good = [arch for arch, accuracy in told.items() if accuracy >= bar]
    return sorted(good, key=lambda arch: cost.of(arch.choices))[:TRIED]


def measured(quest: Quest, search: ProxylessSearch, archs: Sequence[Arch]) -> dict[str, float]:
    device, shape = quest.work.bench.device, quest.work.splits.input_shape
    files = {
        arch.digest: device.export(deployable(quest.work, search.extract(arch)), shape, input_type="uint8")
        for arch in archs
    }
    return {name: latency.median_ms for name, latency in quest.work.bench.time_files(files).items()}


def chosen(quest: Quest, search: ProxylessSearch, told: Mapping[Arch, float], bar: float) -> Record:
    """The fastest measured of the archs that are predicted the fastest, and what it is made of."""
    tried = fastest(quest, told, bar)
    times = measured(quest, search, tried)
    best = min(tried, key=lambda arch: times[arch.digest])
    blocks = [block for block in quest.space.plan(best).blocks if block.op == "mbconv"][1:]
    return {
        "arch": best.to_dict(),
        "kernel": statistics.mean(block.kernel for block in blocks),
        "expansion": statistics.mean(block.hidden / block.in_channels for block in blocks),
        "blocks": len(blocks),
    }


def trained(quests: Sequence[Quest], search: ProxylessSearch, arch: Arch) -> Record:
    """The test accuracy of an arch on every device, trained as a design is."""
    first = quests[0]
    plan = first.space.plan(arch)
    recipe = training_recipe(first.work, plan)
    start = search.extract(arch)
    network = finish(first.work, f"own-{arch.digest}", "design", plan, recipe, arch=arch, start=start)
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


def one_seed(options: Namespace, data: Path, records: Records, seed: int) -> Record:
    """The network of each device with this seed, and what it takes and reaches on every device."""
    asked = [
        Settings(
            str(data), device, seed=seed, budget="quick", baselines="none", strategy="random", width=WIDTH,
            stages=STAGES, epochs=options.epochs, search_epochs=options.search_epochs,
        )
        for device in options.devices
    ]  # fmt: skip
    with searched(asked, options.work / f"seed-{seed}") as (quests, search):
        on, space = dict(zip(options.devices, quests, strict=True)), quests[0].space
        rng = Random(seed)
        drawn = list(dict.fromkeys(space.sample(rng) for _ in range(options.pool)))

        def judge(name: str, archs: Sequence[Arch]) -> dict[Arch, float]:
            title = f"judged {name}, seed {seed}"
            rows = records.once(title, partial(accuracies, quests[0], search, archs))["judged"]
            return {space.arch(tuple(choices)): accuracy for choices, accuracy in rows}

        judged = judge("draws", drawn)
        told = fitted(space, judged)
        bar = float(np.quantile(list(told.values()), QUANTILE))
        for number in range(ROUNDS):  # look closer at those that would be chosen
            near = [arch for quest in quests for arch in fastest(quest, told, bar) if arch not in judged]
            judged |= judge(f"round {number}", list(dict.fromkeys(near)))
            told = fitted(space, judged)
        own = {
            device: records.once(
                f"chosen for {device}, seed {seed}", partial(chosen, quest, search, told, bar)
            )
            for device, quest in on.items()
        }
        archs = list({Arch.from_dict(record["arch"]): None for record in own.values()})
        times = {
            device: records.once(
                f"compared on {device}, seed {seed}", partial(compared, quest, search, archs)
            )
            for device, quest in on.items()
        }
        reached = {
            arch.digest: records.once(
                f"trained {arch.digest}, seed {seed}", partial(trained, quests, search, arch)
            )
            for arch in archs
        }
        return {
            "own": own, "times": times, "reached": reached, "bar": bar,
            "spread": max(told.values()) - min(told.values()),
            "differ": [_differ(quests, told, share) for share in OTHERS],
        }  # fmt: skip


def _differ(quests: Sequence[Quest], told: Mapping[Arch, float], share: float) -> int:
    """How many networks the devices' predictions choose where the accuracy leaves a share of archs behind."""
    bar = float(np.quantile(list(told.values()), share))
    return len({fastest(quest, told, bar)[0] for quest in quests})


def ratios(seed: Record, device: str, other: str) -> list[float]:
    """How much longer the network for another device takes than its own, on a device, each time measured."""
    archs = {name: Arch.from_dict(record["arch"]).digest for name, record in seed["own"].items()}
    times = seed["times"][device]
    return [b / a for a, b in zip(times[archs[device]], times[archs[other]], strict=True)]


def figures_of(seeds: Sequence[Record], devices: Sequence[str]) -> list[Figure]:
    """Of each device: its networks, and how much longer the others' take there."""
    figures = []
    for device in devices:
        own = [seed["own"][device] for seed in seeds]
        mine = [Arch.from_dict(record["arch"]).digest for record in own]
        time = statistics.mean(
            statistics.mean(seed["times"][device][arch]) for seed, arch in zip(seeds, mine, strict=True)
        )
        figures += [
            Figure(f"{device}: mean kernel of its networks", statistics.mean(r["kernel"] for r in own)),
            Figure(f"{device}: mean expansion of its networks", statistics.mean(r["expansion"] for r in own)),
            Figure(f"{device}: its networks there", time, "ms"),
        ]
        for other in devices:
            if other == device:
                continue
            found = [ratios(seed, device, other) for seed in seeds]
            lower = [statistics.mean(row) - 2 * statistics.stdev(row) for row in found]
            name = f"on {device}, networks for {other}"
            figures += [
                Figure(f"{name}: time over its own", statistics.mean(map(statistics.mean, found)), "x"),
                Figure(f"{name}: the same, least of seeds, less 2 deviations", min(lower), "x", ">= 1"),
            ]
    return [*figures, *accuracy_figures(seeds, devices)]


def accuracy_figures(seeds: Sequence[Record], devices: Sequence[str]) -> list[Figure]:
    """The test accuracy of each device's networks on every device, and how far they are apart."""
    figures = []
    for on in devices:
        means = {}
        for device in devices:
            accuracies = [
                seed["reached"][Arch.from_dict(seed["own"][device]["arch"]).digest][on] for seed in seeds
            ]
            means[device] = 100 * statistics.mean(accuracies)
            figures.append(Figure(f"on {on}, networks for {device}: test accuracy", means[device], "%"))
        apart = max(means.values()) - min(means.values())
        figures.append(Figure(f"on {on}: most that they are apart", apart, "points", f"<= {EQUAL}"))
    return figures


def main() -> None:
    arguments = data_parser(__doc__ or "", "specialisation")
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--images", type=int, default=27000)
    arguments.add_argument("--pool", type=int, default=160)
    arguments.add_argument("--search-epochs", type=int, default=6)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--seeds", type=int, default=2)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records = Records(options.records)
    data = part_of(options.data, options.images, options.work / "part.npz")
    seeds = [one_seed(options, data, records, seed) for seed in range(options.seeds)]
    publish(
        [
            Figure("seeds", len(seeds)),
            Figure(
                "accuracy asked for, on the supernet", 100 * statistics.mean(s["bar"] for s in seeds), "%"
            ),
            Figure(
                "from the least accurate arch to the most",
                100 * statistics.mean(s["spread"] for s in seeds),
                "points",
            ),
            *(
                Figure(
                    f"networks that predictions choose, as accurate as the best {1 - share:.0%}",
                    statistics.mean(seed["differ"][i] for seed in seeds),
                )
                for i, share in enumerate(OTHERS)
            ),
            Figure(
                f"networks chosen for {len(options.devices)} devices that differ",
                statistics.mean(len(seed["reached"]) for seed in seeds),
            ),
            *figures_of(seeds, options.devices),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
