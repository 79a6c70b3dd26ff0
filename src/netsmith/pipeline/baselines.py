"""The networks that a design must beat: MobileNetV2, CondenseNet, and the best random arch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from random import Random

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.pipeline.finish import Finished, finish
from netsmith.pipeline.searching.choose import Chooser
from netsmith.pipeline.searching.reach import figures
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.search.random import RandomSearch
from netsmith.spaces.condensenet import condensenet
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train import Recipe

WIDTHS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4)
# Where one alone is trained it should be as wide as a design may be.
FINE_WIDTHS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.2, 1.4)
GROWTHS = (4, 8, 12, 16, 24, 32)
RANDOM_ARCHS = 8
# Random archs are drawn near the limit: what is far under it wastes the budget, and would be a straw man.
NEAR = 0.85


def baselines(work: Work, chooser: Chooser, recipe: Recipe) -> Iterator[Finished]:
    """Train the baselines that the settings ask for, by the design's own recipe."""
    if work.settings.baselines == "none":
        return
    yield from mobilenets(work, recipe)
    arch = _best_random(work, chooser)
    if arch is not None:
        work.progress.stage("Baseline random")
        plan = chooser.search.space.plan(arch)
        yield finish(work, "random", "random", plan, recipe, arch=arch, start=chooser.start(arch))


def mobilenets(work: Work, recipe: Recipe) -> Iterator[Finished]:
    """Train the MobileNetV2 of the widths that the settings ask for."""
    for width in mobilenet_widths(work):
        name = f"mobilenetv2-{width:g}"
        work.progress.stage(f"Baseline {name}")
        plan = mobilenetv2(work.splits.input_shape, work.splits.classes, width)
        yield finish(work, name, "mobilenetv2", plan, recipe, arch=None, start=None)


def mobilenet_widths(work: Work) -> list[float]:
    """Return no, every, or the widest MobileNetV2's width within the design's aims, as the settings ask.

    The narrowest stands in where none is within them.
    """
    asked = work.settings.baselines
    if asked == "none":
        return []
    shape, classes = work.splits.input_shape, work.splits.classes
    plans = {w: mobilenetv2(shape, classes, w) for w in (WIDTHS if asked == "full" else FINE_WIDTHS)}
    device = work.bench.device
    if isinstance(device, TableDevice):
        plans = {width: plan for width, plan in plans.items() if device.covers(plan.blocks)}
        if not plans:
            work.warn(f"{device.name} lacks the blocks of MobileNetV2: it is not among the baselines")
    if asked == "full" or not plans:
        return list(plans)

    return [work.once("baseline", partial(_widest, work, plans))["width"]]


def condensenets(work: Work, recipe: Recipe) -> Iterator[Finished]:
    """Train the CondenseNets that the settings ask for: layers as in the dense space, of several growths."""
    asked, splits = work.settings.baselines, work.splits
    if asked == "none":
        return
    layers = [stage.layers for stage in work.dense_stages()]
    plans: dict[float, Plan] = {
        growth: condensenet(
            splits.input_shape, splits.classes, layers, [growth * 2**i for i in range(len(layers))]
        )
        for growth in GROWTHS
    }
    chosen = [work.once("condensenet", partial(_widest, work, plans))["width"]]
    for growth in plans if asked == "full" else chosen:
        name = f"condensenet-{growth:g}"
        work.progress.stage(f"Baseline {name}")
        yield finish(work, name, "condensenet", plans[growth], recipe, arch=None, start=None)


def _widest(work: Work, plans: Mapping[float, Plan]) -> dict[str, float]:
    """The widest of plans, given from the narrowest up, within the design's aims; else the narrowest."""
    chosen = min(plans)
    for width, plan in plans.items():
        found = figures(plan, work.bench)
        if any(found[name] > aim for name, aim in work.aims.items() if name in found):
            break
        chosen = width
    return {"width": chosen}


def _best_random(work: Work, chooser: Chooser) -> Arch | None:
    """The best on the supernet's weights of some random archs near the limit that keep it as measured.

    They are drawn from the paths that the search left open: the weights of the others are gone.
    """

    def draw(rng: Random) -> Arch:
        try:
            return chooser.open.draw(rng, chooser.target, NEAR * chooser.target)
        except BudgetError:
            return chooser.open.draw(rng, chooser.target)

    searcher = RandomSearch(draw, work.settings.seed)
    try:
        trials = [chooser.score(searcher.ask(), stage="random") for _ in range(RANDOM_ARCHS)]
    except BudgetError:
        return None
    scored = sorted((t for t in trials if t.valid), key=lambda t: t.figures["error"])
    kept = [trial for trial in chooser.measure(scored) if trial.valid]
    return kept[0].arch if kept else None
