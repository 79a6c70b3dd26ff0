"""What channels to take out: an agent's choice beside simpler ones, at equal multiply-adds and fine-tuning.

Networks like VGG, ResNet and MobileNet are trained on Fashion-MNIST and on CIFAR-10's JPEGs. Under a limit of
multiply-adds their channels go by an equal share everywhere; globally by magnitude; by a knapsack over Taylor
scores; by AMC's agent, or the best of as many draws at random, both judged on validation images before any
fine-tuning; the agent begins with what the simpler ways found. Each is fine-tuned alike; where only a quarter
stays the base is shown trained on as long, too. A narrower network of the same kind (the width multiplier) is
trained as the base was, and then as the others. Test images choose nothing.

    python benchmarks/channel_pruning.py --data ../shared/data --json channel_pruning.json
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import torch
from harness import Figure, Record, Records, ahead, cifar, fashion, parser, publish
from networks import NETWORKS
from torch import nn

from netsmith.compress.agent import search_walk
from netsmith.compress.allocation import Choices, Widths, by_score, drawn, kept_of, knapsack, uniform
from netsmith.compress.amc import ChannelWalk
from netsmith.compress.dependencies import channels_of
from netsmith.compress.importance import magnitude, taylor
from netsmith.compress.slicing import pruned
from netsmith.data import ImageSet, Loader, channel_statistics, choose_policy
from netsmith.nn.count import count
from netsmith.nn.runtime import keep_memory
from netsmith.train import Recipe, evaluate, recalibrate, train
from netsmith.train.recipe import fit_lr

SETS = ("Fashion-MNIST", "CIFAR-10")
VALIDATION, BATCH, CALIBRATION_BATCHES, SCORED_BATCHES = 2000, 64, 4, 8
WAYS = ("agent", "uniform", "width multiplier", "random", "magnitude", "knapsack")
# Networks, the share of multiply-adds that stays, and the ways that are compared there.
CASES = (
    ("VGG", 0.25, ("agent", "uniform", "knapsack")),
    *((network, 0.5, WAYS) for network in NETWORKS),
)


class Effort(NamedTuple):
    """How long networks are trained and searched for."""

    images: int
    epochs: int
    tuning: int
    episodes: int


class Images:
    """A data set in three parts: weights learn from train, widths are chosen by validation."""

    def __init__(self, name: str, data: Path, effort: Effort) -> None:
        parts = (
            fashion(data / "fashion_mnist", effort.images, VALIDATION)
            if name == "Fashion-MNIST"
            else cifar_parts(data, effort.images)
        )
        train_part, validation, test = parts
        mean, std = channel_statistics(train_part)
        policy = choose_policy(train_part.input_shape, effort.epochs, flip=True)
        loader = partial(Loader, mean=mean, std=std)
        self.shape, self.classes = train_part.input_shape, len(train_part.label_names)
        self.train = loader(train_part, BATCH, policy=policy, seed=1, drop_last=True)
        self.plain = loader(train_part, 256, seed=2)
        self.validation = loader(validation, 256, shuffle=False)
        self.test = loader(test, 256, shuffle=False)


def cifar_parts(data: Path, images: int) -> tuple[ImageSet, ImageSet, ImageSet]:
    folder = data / "cifar10_jpg"
    train_part, validation = cifar(folder / "cifar10_train_jpg.npz", images, VALIDATION)
    test, _ = cifar(folder / "cifar10_test_jpg.npz", 10000, 0)
    return train_part, validation, test


def compared(
    name: str, share: float, ways: tuple[str, ...], images: Images, effort: Effort, seed: int
) -> Record:
    """Return test accuracies, 0..1: the base's, and of each way's network before and after fine-tuning."""
    make = partial(NETWORKS[name], images.shape[0], images.classes)
    base = base_of(name, images, effort.epochs, seed)
    job = _Job(base, images, share, effort, seed)
    record: Record = {"base": evaluate(base, images.test).accuracy, "macs": count(base, images.shape).macs}
    for way in ways:
        if way == "width multiplier":
            network = trained(partial(make, job.multiplier(make)), images, effort.epochs, seed)
        else:
            network = job.cut(job.widths(way))
            recalibrate(network, images.plain, CALIBRATION_BATCHES)
        record[f"{way}, before"] = evaluate(network, images.test).accuracy
        fitted(network, images, effort.tuning, seed)
        record[way] = evaluate(network, images.test).accuracy
        record[f"{way}, macs"] = count(network, images.shape).macs
    if share < 0.5:
        base = copy.deepcopy(base)
        fitted(base, images, effort.tuning, seed)
        record["base, trained on"] = evaluate(base, images.test).accuracy
    return record


class _Job:
    """A trained network under a limit of multiply-adds."""

    def __init__(self, base: nn.Module, images: Images, share: float, effort: Effort, seed: int) -> None:
        self.base, self.images, self.effort, self.seed = base, images, effort, seed
        self.channels = channels_of(base, images.shape)
        self.choices = Choices(self.channels, step=4)
        self.limit = share * self.channels.macs({})
        self.magnitude = magnitude(base, self.channels)
        self.known: dict[tuple[int, ...], float] = {}

    def widths(self, way: str) -> Widths:
        cost = self.channels.macs
        if way == "uniform":
            return uniform(self.choices, cost, self.limit)
        if way == "magnitude":
            return by_score(self.choices, self.magnitude, cost, self.limit)
        if way == "knapsack":
            batches = islice(self.images.plain.epoch(0), SCORED_BATCHES)
            return knapsack(self.choices, taylor(self.base, self.channels, batches), cost, self.limit)
        if way == "random":
            draws = drawn(self.choices, cost, self.limit, self.seed)
            return max(islice(draws, self.effort.episodes), key=self.score)
        walk = ChannelWalk(self.choices, cost, self.limit, self.score)
        shown = [walk.actions(self.widths(simpler)) for simpler in ("uniform", "magnitude", "knapsack")]
        found = search_walk(walk, shown=shown, episodes=self.effort.episodes, seed=self.seed)
        return walk.widths(found.actions)

    def cut(self, widths: Widths) -> nn.Module:
        return pruned(self.base, self.channels, kept_of(self.channels, self.magnitude, widths))

    def score(self, widths: Widths) -> float:
        """Return the validation accuracy before fine-tuning, 0..1; found once."""
        key = tuple(widths[name] for name in self.choices.of)
        if key not in self.known:
            network = self.cut(widths)
            recalibrate(network, self.images.plain, CALIBRATION_BATCHES)
            self.known[key] = evaluate(network, self.images.validation).accuracy
        return self.known[key]

    def multiplier(self, make: Callable[[float], nn.Module]) -> float:
        """Return the greatest of a hundred width multipliers within the limit."""
        within: Iterator[float] = (w / 100 for w in range(100, 0, -1))
        return next(w for w in within if count(make(w), self.images.shape).macs <= self.limit)


@lru_cache(maxsize=1)
def base_of(name: str, images: Images, epochs: int, seed: int) -> nn.Module:
    return trained(partial(NETWORKS[name], images.shape[0], images.classes), images, epochs, seed)


def trained(make: Callable[[], nn.Module], images: Images, epochs: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = make()
    fitted(network, images, epochs, seed)
    return network


def fitted(network: nn.Module, images: Images, epochs: int, seed: int) -> None:
    recipe = Recipe(epochs, BATCH, lr=fit_lr(BATCH), warmup_epochs=min(0.5, epochs / 4))
    train(network, images.train, images.validation, recipe, seed=seed)


def figures_of(title: str, ways: tuple[str, ...], share: float, runs: list[Record]) -> Iterator[Figure]:
    def mean(name: str) -> float:
        return 100 * statistics.mean(run[name] for run in runs)

    yield Figure(f"{title}: multiply-adds", runs[0]["macs"] / 1e6, "M")
    yield Figure(f"{title}: base, test accuracy", mean("base"), "%")
    kept = f"{title} to {100 * share:.0f} %"
    for way in ways:
        yield Figure(f"{kept}: {way}, mean", mean(way), "%")
        yield Figure(f"{kept}: {way}, before fine-tuning", mean(f"{way}, before"), "%")
        if len(runs) > 1:
            spread = 100 * statistics.stdev(run[way] for run in runs)
            yield Figure(f"{kept}: {way}, standard deviation", spread, "points")
    for other in ("uniform", "width multiplier"):
        if other in ways:
            gains = [100 * (run["agent"] - run[other]) for run in runs]
            yield ahead(f"{kept}: agent over {other}", gains)
    if share < 0.5:
        yield Figure(f"{kept}: base over agent", mean("base") - mean("agent"), "points", "<= 1")
        trained_on = mean("base, trained on") - mean("agent")
        yield Figure(f"{kept}: base trained on as long over agent", trained_on, "points")


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/channel_pruning.json"))
    arguments.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="of images")
    arguments.add_argument("--images", type=int, default=8000)
    arguments.add_argument("--epochs", type=int, default=8, help="of a base's training")
    arguments.add_argument("--tuning", type=int, default=8, help="epochs of fine-tuning")
    arguments.add_argument("--episodes", type=int, default=80)
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not (options.data / "fashion_mnist").exists() or not (options.data / "cifar10_jpg").exists():
        print(f"skipped: {options.data} holds no fashion_mnist and cifar10_jpg")
        return
    keep_memory()
    effort = Effort(options.images, options.epochs, options.tuning, options.episodes)
    records = Records(options.records)
    found: dict[tuple[str, str, float, tuple[str, ...]], list[Record]] = {}
    for name in options.sets:
        images = Images(name, options.data, effort)
        for seed, (network, share, ways) in product(range(options.seeds), CASES):
            run = partial(compared, network, share, ways, images, effort, seed)
            record = records.once(f"{name}, {network} to {share}, seed {seed}", run)
            found.setdefault((name, network, share, ways), []).append(record)
    publish(
        [
            figure
            for (name, network, share, ways), runs in found.items()
            for figure in figures_of(f"{name}, {network}", ways, share, runs)
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
