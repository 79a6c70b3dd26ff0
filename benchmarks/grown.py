"""Paths grown in a trained network, beside training it on and plain widening, at equal size and latency.

A network too small for its images is trained on part of Fashion-MNIST, and of CIFAR-10's JPEGs.
`netsmith.grow` searches for the tree of paths that does best within so many times its parameters and latency,
and trains it on. Beside it, trained on for as long by the same recipe: the network as it was; and with its
channels copied everywhere alike (Net2Net), up to the grown network's parameters, and up to its latency as
measured. The grown network is also trained from scratch, for as many epochs as the base, and with the weights
it inherits for a quarter of them. Validation images choose; test images choose nothing.

    python benchmarks/grown.py --data ../shared/data --json grown.json
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Figure, Record, Records, ahead, jpegs, parser, part_of, publish
from networks import small
from torch import nn
from trained import Trained

import netsmith
from netsmith.compress.dependencies import channels_of
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.finish import Finished, counts_of
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.transform.moves import NOISE
from netsmith.transform.widen import widened, widening

SETS = ("Fashion-MNIST", "CIFAR-10")
DEVICE = "onnxruntime:threads=1"
PARAMS, LATENCY = 2.0, 5.0  # times what the base takes: the limits of growth
QUARTER = 4
HALVINGS, MOST_WIDER = 8, 6.0
CIFAR_TEST = 10_000


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/grown.json"))
    arguments.add_argument("--work", type=Path, default=Path("runs/grown"), help="folder of the designs")
    arguments.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="of images")
    arguments.add_argument("--strategies", nargs="+", default=["path-level"])
    arguments.add_argument("--images", type=int, default=16_000)
    arguments.add_argument("--epochs", type=int, default=12, help="of a base's training")
    arguments.add_argument("--child", type=int, default=3, help="epochs of a tree's training in the search")
    arguments.add_argument("--tuning", type=int, default=8, help="epochs of training on")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not (options.data / "fashion_mnist").exists() or not (options.data / "cifar10_jpg").exists():
        print(f"skipped: {options.data} holds no fashion_mnist and cifar10_jpg")
        return
    keep_memory()
    records = Records(options.records)
    found: dict[str, list[Record]] = {}
    for name in options.sets:
        data = images_of(name, options)
        for seed in range(options.seeds):
            run = partial(compared, name, data, options, seed)
            found.setdefault(name, []).append(records.once(f"{name}, seed {seed}", run))
    publish([figure for name, runs in found.items() for figure in figures_of(name, runs)], options.json)


def images_of(name: str, options: Any) -> Path:
    """Return a part of a data set with all its test images, as .npz."""
    path: Path = options.work / f"{name}-{options.images}.npz"
    if name == "Fashion-MNIST":
        return part_of(options.data / "fashion_mnist", options.images, path)
    if not path.exists():
        folder = options.data / "cifar10_jpg"
        images, labels = jpegs(folder / "cifar10_train_jpg.npz", options.images)
        test_images, test_labels = jpegs(folder / "cifar10_test_jpg.npz", CIFAR_TEST)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=images, labels=labels, test_images=test_images, test_labels=test_labels)
    return path


def compared(name: str, data: Path, options: Any, seed: int) -> Record:
    """Return accuracy, parameters and latency of every network, and what training from scratch takes."""
    folder = options.work / f"{name}-{seed}"
    settings = Settings(data=str(data), device=DEVICE, budget="quick", epochs=options.tuning, seed=seed)
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data, Silent())
        bases = Bases(work, options.epochs)
        networks = {
            "base": bases.base,
            "base, trained on": bases.tuned("base, trained on", bases.base.module),
        }
        for strategy in options.strategies:
            networks[strategy] = bases.grown(folder / strategy, strategy, options.child)
        best = networks[options.strategies[0]]
        networks["wider, equal parameters"] = bases.wider(
            "wider, equal parameters", lambda module: counts_of(work, module).params <= best.counts.params
        )
        limit = bases.timed(best.module)
        networks["wider, equal latency"] = bases.wider(
            "wider, equal latency", lambda module: bases.timed(module) <= limit
        )
        record: Record = {"networks": bases.measured(networks)}
        record["scratch"] = bases.from_scratch(best, options.epochs)
    return record


class Bases(Trained):
    """A trained network, and what becomes of it in several ways."""

    def __init__(self, work: Work, epochs: int) -> None:
        super().__init__(work, small, epochs)
        self.channels = widening(channels_of(self.base.module, work.splits.input_shape))

    @property
    def _base_ms(self) -> float:
        """The base's latency as it was found first: a search goes on by the limits it began with."""
        found = self.work.once("base latency", lambda: {"ms": self.timed(self.base.module)})
        return float(found["ms"])

    def grown(self, out: Path, strategy: str, child_epochs: int) -> Finished:
        """Return what `netsmith.grow` makes of the base."""
        splits, asked = self.work.splits, self.work.settings
        module, design = netsmith.grow(
            self.base.module,
            asked.data,
            device=DEVICE,
            params=PARAMS * counts_of(self.work, self.base.module).params,
            latency_ms=LATENCY * self._base_ms,
            mean=splits.mean,
            std=splits.std,
            strategy=strategy,
            space="tree",
            search_epochs=child_epochs,
            epochs=asked.epochs,
            budget="quick",
            baselines="none",
            seed=asked.seed,
            out=out,
        )
        return replace(
            self.base,
            name=strategy,
            arch=design.arch,
            module=module,
            counts=counts_of(self.work, module),
            model=design.exported.read_bytes(),
        )

    def wider(self, name: str, within: Callable[[nn.Module], bool]) -> Finished:
        """Return the base with as many copies of its channels as a limit allows, trained on."""
        low, high = 1.0, MOST_WIDER
        best = self.base.module
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            module = self._copied(middle)
            if within(module):
                best, low = module, middle
            else:
                high = middle
        return self.tuned(name, best)

    def from_scratch(self, grown: Finished, epochs: int) -> Record:
        """Return the grown network's test accuracy from scratch, and inherited after a quarter as long."""
        module = deepcopy(grown.module)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.work.settings.seed)
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                    layer.reset_parameters()
        scratch = self.tuned(f"{grown.name}, scratch", module, epochs)
        growth = self._growth()
        few = math.floor(epochs / QUARTER)
        assert grown.arch is not None
        inherited = self.tuned(f"{grown.name}, inherited", growth.begun(grown.arch), few)
        return {
            "epochs": epochs,
            "scratch": self._accuracy(scratch),
            "inherited epochs": few,
            "inherited": self._accuracy(inherited),
        }

    def measured(self, networks: dict[str, Finished]) -> Record:
        """Return what is known of networks, their files timed in turn."""
        times = self.work.bench.time_files({k: v.model for k, v in networks.items()}, limit_s=60.0)
        return {
            name: {
                "accuracy": self._accuracy(network),
                "params": network.counts.params,
                "macs": network.counts.macs,
                "latency_ms": times[name].median_ms,
            }
            for name, network in networks.items()
        }

    def _accuracy(self, network: Finished) -> float:
        return test_exported(self.work.bench.device, network.model, self.work.splits.test).accuracy

    def _growth(self) -> Any:
        from netsmith.pipeline.base import own
        from netsmith.pipeline.growing.growth import Growth

        return Growth(self.work, own(self.base.module))

    def _copied(self, factor: float) -> nn.Module:
        """The base with so many times the channels in every group, copies told apart by noise."""
        copied: dict[str, Sequence[int]] = {
            group.name: [i % group.channels for i in range(round((factor - 1) * group.channels))]
            for group in self.channels.groups
        }
        module = widened(self.base.module, self.channels, copied)
        generator = torch.Generator().manual_seed(self.work.settings.seed)
        with torch.no_grad():
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    noise = torch.randn(layer.weight.shape, generator=generator)
                    layer.weight.add_(NOISE * float(layer.weight.std()) * noise)
        return module


def figures_of(name: str, runs: list[Record]) -> Iterator[Figure]:
    def mean(way: str, figure: str) -> float:
        return statistics.mean(float(run["networks"][way][figure]) for run in runs)

    for way in runs[0]["networks"]:
        yield Figure(f"{name}, {way}: test accuracy", 100 * mean(way, "accuracy"), "%")
        yield Figure(f"{name}, {way}: parameters", mean(way, "params") / 1e3, "k")
        yield Figure(f"{name}, {way}: latency", mean(way, "latency_ms"), "ms")
    ours = "path-level"
    for way in runs[0]["networks"]:
        if way != ours:
            gains = [
                100 * (run["networks"][ours]["accuracy"] - run["networks"][way]["accuracy"]) for run in runs
            ]
            yield ahead(f"{name}: grown over {way}", gains)
    pairs = [run["scratch"] for run in runs]
    whole, few = pairs[0]["epochs"], pairs[0]["inherited epochs"]
    gains = [100 * (pair["inherited"] - pair["scratch"]) for pair in pairs]
    title = f"{name}: inherited, {few} epochs, over scratch, {whole}"
    yield Figure(title, statistics.mean(gains), "points", ">= 0")


if __name__ == "__main__":
    main()
