"""InstaNAS's phases in a design: one search whose bounds come down, and a network kept at each of some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from netsmith import checkpoint
from netsmith.arch import Arch
from netsmith.costs import Costs, bent
from netsmith.data import Images
from netsmith.nn.count import count_block
from netsmith.pipeline.routing.network import new_network
from netsmith.pipeline.work import EVALUATION_BATCH, SCORING_IMAGES, SEARCH_BATCH, Work
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.instanas import Bounds
from netsmith.supernet.instance import InstanceEpoch, finetune, pretrain, search
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.policies import archs_of
from netsmith.supernet.routed_network import RoutedNetwork
from netsmith.train import Recipe, evaluate, fit_recipe, place, recalibrate
from netsmith.train.recipe import fit_lr

CONTROLLER_BATCH = 32
CALIBRATION_BATCHES = 8
# Of the search's epochs, those in which the bounds come down to the first that is kept.
COMING_DOWN = 0.5
FIRST_SHARE = 0.7  # of all operations at once: the release's first upper bound
# The release's schedules are for hundreds of epochs. Short searches need weights that know sparse paths
# before a controller judges by them, rates at which they follow it, and a controller that can turn a decision
# around: Adam moves a weight by its rate a step at most. They need paths drawn near those that the controller
# would take, too: the release's exploration of 0.8 turns a fifth of some 80 decisions around.
WHOLE_SHARE, MOST_DROPPED = 0.35, 0.75
SEARCH_LR, FINETUNE_LR = 0.1, 0.02
TRAVEL, CONTROLLER_LRS = 1.5, (5e-4, 1e-2)
EXPLORATION = 0.9
# What a phase takes of one training of the design: of the multiply-adds that its effort may spend on it, or
# of its epochs where these were given.
PHASE_SHARE = 1 / 2


@dataclass(frozen=True)
class Schedule:
    """The recipe of the phases, and how many images an epoch of each takes; 0 for all."""

    recipe: InstanceRecipe
    pretrain_images: int
    search_images: int
    finetune_images: int


def schedule(work: Work, space: RoutedSpace, kept: int) -> Schedule:
    """Return the schedule of a design's effort, which fine-tunes ``kept`` networks of one search."""
    asked, images = work.settings, len(work.splits.train)
    fixed = sum(count_block(block).macs for block in (*space.stem, *space.head))
    edges = sum(count_block(block).macs for edge in space.edges for block in edge)
    half = fixed + edges // 2

    def fit(macs: int, share: float) -> Recipe:
        epochs = None if asked.epochs is None else max(1, round(share * asked.epochs))
        return fit_recipe(images, macs, asked.budget, epochs=epochs, share=share)

    pre = fit(fixed + edges, PHASE_SHARE)
    searched = fit_recipe(images, half, asked.budget, epochs=asked.search_epochs, share=PHASE_SHARE)
    tuned = fit(fixed + edges // len(space.edges[0]), PHASE_SHARE / kept)
    steps = max(2, searched.epochs) * -(-min(SCORING_IMAGES, len(work.splits.validation)) // CONTROLLER_BATCH)
    least, most = CONTROLLER_LRS
    recipe = InstanceRecipe(
        pretrain_epochs=pre.epochs,
        search_epochs=max(2, searched.epochs),
        finetune_epochs=tuned.epochs,
        pretrain_lr=fit_lr(SEARCH_BATCH),
        whole_share=WHOLE_SHARE,
        most_dropped=MOST_DROPPED,
        search_lr=SEARCH_LR,
        controller_lr=min(most, max(least, TRAVEL / steps)),
        controller_lr_every=10**6,
        exploration=EXPLORATION,
        finetune_lr=FINETUNE_LR,
    )
    return Schedule(recipe, pre.epoch_images, searched.epoch_images, tuned.epoch_images)


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a search was halted: its number, the mean latency aimed at, and the epochs until then."""

    number: int
    aim_ms: float
    upper_ms: float
    epochs: int


class Descent:
    """One search, halted at bounds that come down; what it is at each can be fine-tuned.

    ``costs`` are those of operations, what choosing takes included. All of it goes on where it was killed.
    """

    def __init__(self, work: Work, space: RoutedSpace, costs: Costs, kept: int) -> None:
        self.work, self.space, self.costs = work, space, costs
        self.schedule = schedule(work, space, kept)
        self.bounds: list[Bound] = []
        self._network: RoutedNetwork | None = None
        self._kept = kept

    @property
    def lower_ms(self) -> float:
        """The latency of the cheapest path, below which none is rewarded."""
        least = sum(min(row) for row, skips in zip(self.costs.edges, self.space.skippable, strict=True)
                    if not skips)  # fmt: skip
        return bent(self.costs.constant + least, self.costs.bend)

    def come_down(self, aim_ms: float) -> Bound:
        """Go on with the search until policies that take ``aim_ms`` are rewarded most, and keep that."""
        lower, number = min(self.lower_ms, 0.95 * aim_ms), len(self.bounds)
        upper, epochs = 2 * aim_ms - lower, self._epochs_of(number)
        begun = self.bounds[-1].epochs if self.bounds else 0
        start = self.bounds[-1].upper_ms if self.bounds else self._first_upper()
        bound = Bound(number, aim_ms, upper, begun + epochs)
        if not self._file(bound).exists():
            self._search(bound, _between(lower, start, upper, begun, bound.epochs))
        self.bounds.append(bound)
        return bound

    def at(self, bound: Bound) -> RoutedNetwork:
        """Return the network as the search had it when it was halted at ``bound``."""
        network = new_network(self.work, self.space)
        tensors, _ = checkpoint.load(self._file(bound))
        checkpoint.load_module(network, tensors)
        return network.eval()

    def tuned(self, bound: Bound) -> tuple[RoutedNetwork, float]:
        """Return the network of ``bound``, fine-tuned with its controller frozen, and the seconds it took."""
        work, network = self.work, place(self.at(bound), self._device)
        assert isinstance(network, RoutedNetwork)
        recipe, images = self.schedule.recipe, self.schedule.finetune_images
        finetune(
            network.supernet, network.controller, self.costs,
            self._train(images, recipe.finetune_epochs, salt=4), recipe,
            checkpoint_path=work.folder.checkpoints / f"finetune-{bound.number}.safetensors",
            on_epoch=partial(self._on_epoch, recipe.finetune_epochs, bound.number),
        )  # fmt: skip
        settle(work, network)
        written = work.journal.all("instance_epoch", phase="finetune", number=bound.number)
        return network.cpu().eval(), sum(float(record["seconds"]) for record in written)

    @property
    def _device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def _file(self, bound: Bound) -> Any:
        return self.work.folder.checkpoints / f"bound-{bound.number}.safetensors"

    def _epochs_of(self, number: int) -> int:
        """Half of the epochs lead to the first bound; the rest is shared by the others, one each at least."""
        epochs = self.schedule.recipe.search_epochs
        down = max(1, round(COMING_DOWN * epochs)) if self._kept > 1 else epochs
        return down if number == 0 else max(1, (epochs - down) // max(1, self._kept - 1))

    def _first_upper(self) -> float:
        """The release's first upper bound: where 0.7 of all operations are active."""
        every = sum(map(sum, self.costs.edges))
        return bent(self.costs.constant + FIRST_SHARE * every, self.costs.bend)

    def _search(self, bound: Bound, bounds: Bounds) -> None:
        """Search from the bound before to this one, and keep what it is then."""
        work, network = self.work, self._pretrained()
        recipe = replace(self.schedule.recipe, search_epochs=bound.epochs)
        images = self.schedule.search_images
        policy = work.policy(recipe.search_epochs)
        validation = work.loader(
            work.splits.validation, CONTROLLER_BATCH, policy=policy, salt=2, limit=SCORING_IMAGES
        )
        search(
            network.supernet, network.controller, self.costs, bounds,
            self._train(images, recipe.search_epochs, salt=1), validation, recipe, work.settings.seed,
            checkpoint_path=work.folder.checkpoints / "search.safetensors",
            on_epoch=partial(self._on_epoch, recipe.search_epochs, None),
        )  # fmt: skip
        checkpoint.save(self._file(bound), network.state_dict(), {"space": self.space.id})

    def _pretrained(self) -> RoutedNetwork:
        """Return the network whose weights have been trained without a controller, once."""
        if self._network is None:
            work, recipe = self.work, self.schedule.recipe
            network = place(new_network(work, self.space), self._device)
            assert isinstance(network, RoutedNetwork)
            pretrain(
                network.supernet, self._train(self.schedule.pretrain_images, recipe.pretrain_epochs, salt=1),
                recipe, work.settings.seed,
                checkpoint_path=work.folder.checkpoints / "pretrain.safetensors",
                on_epoch=partial(self._on_epoch, recipe.pretrain_epochs, None),
            )  # fmt: skip
            self._network = network
        return self._network

    def _train(self, images: int, epochs: int, salt: int) -> Any:
        train = self.work.splits.train
        policy = self.work.policy(epochs * (images or len(train)) / len(train))
        return self.work.loader(train, SEARCH_BATCH, policy=policy, salt=salt, limit=images)

    def _on_epoch(self, epochs: int, number: int | None, figures: InstanceEpoch) -> None:
        work, named = self.work, {"phase": figures.phase, "epoch": figures.epoch, "number": number}
        told = {name: value for name, value in figures.to_dict().items() if name not in named}
        work.once("instance_epoch", lambda: told, **named)
        latency = "" if figures.latency_ms is None else f", {figures.latency_ms:.3g} ms"
        accuracy = figures.train_accuracy if figures.accuracy is None else figures.accuracy
        work.progress.update(
            figures.epoch + 1, epochs, f"{figures.phase}: accuracy {100 * accuracy:.1f} %{latency}"
        )


def settle(work: Work, network: RoutedNetwork) -> None:
    """Estimate the statistics of batch norms anew, along the paths that images take."""
    calibration = work.loader(work.splits.train, EVALUATION_BATCH, salt=3)
    recalibrate(network, calibration, CALIBRATION_BATCHES, part=network.supernet)


def paths_of(work: Work, network: RoutedNetwork, images: Images) -> list[Arch]:
    """Return the path that ``network`` chooses for each of ``images``, in their order."""
    batches = work.loader(images, EVALUATION_BATCH, shuffle=False)
    with torch.no_grad():
        return [
            arch
            for x, _ in batches.epoch(0)
            for arch in archs_of(network.supernet.space, network.choices(x.cpu()))
        ]


def validation_accuracy(work: Work, network: RoutedNetwork) -> float:
    """Return the share of validation images that ``network`` classifies right along their own paths."""
    return evaluate(network, work.loader(work.splits.validation, EVALUATION_BATCH, shuffle=False)).accuracy


def _between(lower: float, start: float, end: float, begun: int, epochs: int) -> Bounds:
    """Return bounds whose upper one is ``start`` at epoch ``begun`` and ``end`` at the last of ``epochs``.

    :class:`Bounds` run in a line from epoch 0, so that this one is begun in its middle.
    """
    steps = epochs - 1 - begun
    slope = (end - start) / steps if steps else 0.0
    first = end - slope * (epochs - 1)
    return Bounds(lower, max(first, 1.0001 * lower), end)
