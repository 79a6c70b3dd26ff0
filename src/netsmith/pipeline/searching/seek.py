"""Searching: what one device asks of a search, and the supernet trained for all that ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch

from netsmith.costs import Costs
from netsmith.devices.device import WEIGHT_BYTES
from netsmith.latency.model import LatencyModel
from netsmith.nn.count import count_plan
from netsmith.pipeline.searching.reach import Reach, shallow
from netsmith.pipeline.work import SEARCH_BATCH, Work
from netsmith.plan import Block, Plan
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.paths import Paths
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.search import ProxylessSearch, SearchEpoch
from netsmith.train import fit_recipe

WARMUP_SHARE = 0.4
# The search aims a little below the limit, since a prediction is not a measurement, and two measurements
# of one network differ by about as much.
MARGIN = 0.98


@dataclass(frozen=True)
class Quest:
    """What is searched for on one device: archs of ``space`` whose ``figure`` is at most ``target``.

    ``costs`` are those of the figure, ``latency`` those of the milliseconds.
    """

    work: Work
    reach: Reach
    space: ChainSpace
    model: LatencyModel
    latency: Costs
    figure: str
    costs: Costs
    target: float


def search_recipe(quests: Sequence[Quest]) -> tuple[SearchRecipe, int]:
    """Return the recipe of the search and the images of an epoch (0 for all).

    Its weight steps may cost what one training of an arch of its first distributions costs.
    """
    first = quests[0]
    work, asked = first.work, first.work.settings
    counted, macs = PathCosts.of(*_counted(first.space, "macs", 1)), 0
    for quest in quests:
        paths = Paths(quest.space, torch.Generator().manual_seed(asked.seed))
        paths.aim(PathCosts.of(*quest.costs), quest.target)
        macs += int(counted.expected(paths.probabilities().detach())) // len(quests)
    fitted = fit_recipe(len(work.splits.train), macs, asked.budget, epochs=asked.search_epochs)
    epochs = max(2, fitted.epochs)
    warmup = max(1, round(WARMUP_SHARE * epochs)) if asked.way.strategy == "proxyless" else epochs
    recipe = SearchRecipe(
        epochs=epochs,
        warmup_epochs=warmup,
        weights=cast(Literal["shared", "own"], asked.weights),
        update=cast(Literal["gradient", "reinforce"], asked.update),
    )
    return recipe, fitted.epoch_images


def binding_costs(work: Work, space: ChainSpace, latency: Costs) -> tuple[str, Costs, float]:
    """Return the aim that a shallow arch presses hardest on, its costs, and the value to aim at.

    Latency, multiply-adds, parameters and size all add up over blocks. Without any of these aims the
    value is the latency of the dearest arch, which no arch is over.
    """
    limits = work.aims
    tables: dict[str, Costs] = {"latency_ms": latency}
    weight_bytes = WEIGHT_BYTES[work.bench.device.precision]
    for name, scale in (("macs", 1), ("params", 1), ("size_bytes", weight_bytes)):
        figure = "params" if name == "size_bytes" else name
        tables[name] = _counted(space, figure, scale)
    choices = shallow(space).choices
    pressed = {
        name: AdditiveCost(*tables[name]).of(choices) / limit
        for name, limit in limits.items()
        if name in tables
    }
    if not pressed:
        return "latency_ms", latency, AdditiveCost(*latency).most
    name = max(pressed, key=pressed.__getitem__)
    return name, tables[name], limits[name] * MARGIN


def run_search(quests: Sequence[Quest]) -> ProxylessSearch:
    """Train a supernet and the path probabilities of every quest, from the checkpoint where there is one.

    The quests are for one space. Images, seed, effort and the checkpoint are those of the first.
    """
    work, space = quests[0].work, quests[0].space
    asked, splits = work.settings, work.splits
    device = "cuda" if torch.cuda.is_available() else "cpu"
    targets = [(PathCosts.of(*quest.costs), quest.target) for quest in quests]
    recipe, epoch_images = search_recipe(quests)
    search = ProxylessSearch(space, targets, recipe, asked.seed, device)
    written = [{r["epoch"] for r in quest.work.journal.all("search_epoch")} for quest in quests]

    def on_epoch(figures: SearchEpoch) -> None:
        quest = quests[figures.aim]
        if figures.epoch not in written[figures.aim]:
            quest.work.journal.write("search_epoch", **figures.to_dict())
        note = f"loss {figures.loss:.3f}, expected {figures.expected_ms:.4g} of {quest.target:.4g}"
        work.progress.update(figures.epoch + 1, recipe.epochs, note)

    policy = work.policy(recipe.epochs * (epoch_images or len(splits.train)) / len(splits.train))
    search.run(
        work.loader(splits.train, SEARCH_BATCH, policy=policy, salt=1, limit=epoch_images),
        work.loader(splits.validation, SEARCH_BATCH, policy=policy, salt=2),
        checkpoint_path=work.folder.checkpoints / "search.safetensors",
        on_epoch=on_epoch,
    )
    return search


def _counted(space: ChainSpace, figure: str, scale: float) -> Costs:
    """The costs of a count that adds up over blocks."""

    def of(*blocks: Block) -> float:
        return scale * float(getattr(count_plan(Plan(blocks)), figure))

    constant = of(*space.stem) + of(*space.head)
    return Costs(constant, [[of(block) for block in options] for options in space.edges])
