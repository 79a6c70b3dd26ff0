"""Designs whose archs are each trained for a short while, of any space that can be built."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from bisect import bisect_left
from functools import partial
from random import Random
from typing import Any

import torch

from netsmith.arch import Arch
from netsmith.errors import BudgetError, SettingsError
from netsmith.nn.count import Counts, count_plan
from netsmith.nn.network import Network
from netsmith.pipeline.baselines import condensenets, mobilenets
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import train_best
from netsmith.pipeline.finish import training_recipe
from netsmith.pipeline.searching.reach import WIDTHS, figures
from netsmith.pipeline.searching.short_training import DRAWN, TrainedJudge, judged_trials
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.spaces.dense import DenseSpace
from netsmith.spaces.space import BuildableSpace
from netsmith.train import Recipe

# A width is worth searching where so many of some archs keep the budget.
_KEPT = 0.5


class Planned:
    """The networks of a space's plans, trained from scratch.

    Archs of equal plans are one network, such as a cell and the same with no norm behind it.
    """

    def __init__(self, space: BuildableSpace, seed: int) -> None:
        self.space, self._seed = space, seed

    @property
    def least(self) -> None:
        """None: they are of one width, and other choices are not more or less of one thing."""

    def key(self, arch: Arch) -> str:
        """The digest of the plan."""
        plan = json.dumps(self.space.plan(arch).to_list())
        return hashlib.blake2b(plan.encode(), digest_size=8).hexdigest()

    def counts(self, arch: Arch) -> Counts:
        """Count the plan."""
        return count_plan(self.space.plan(arch))

    def made(self, arch: Arch) -> Network:
        """Build the plan."""
        return Network(self.space.plan(arch))

    def begun(self, arch: Arch) -> Network:
        """Build the plan with weights that follow from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            return self.made(arch)

    def suited(self, recipe: Recipe) -> Recipe:
        """Return the recipe as it is."""
        return recipe

    def words(self, arch: Arch) -> str:
        """Tell a cell by the names of its layers; other spaces are told by the report."""
        return ", ".join(self.space.describe(arch)) if isinstance(self.space, DenseSpace) else ""

    def features(self, arch: Arch) -> tuple[float, ...]:
        """None: most archs of these spaces keep the budget, for their width was chosen so."""
        return ()


def trained_design(work: Work) -> None:
    """Everything from the images to the result, without a supernet."""
    if isinstance(work.bench.device, TableDevice):
        raise SettingsError(
            "archs that are trained one by one are measured, which a table cannot do; name a device, or "
            "search by --judge supernet"
        )
    work.read_images()
    work.progress.stage("Choosing the width")
    width = work.once("width", partial(_fit_width, work))["width"]
    space = work.buildable(width)
    work.once("space", lambda: {"id": space.id, "width": width, "count": str(space.count())})
    work.set_threads(space.plan(space.sample(Random(0))))
    work.progress.stage("Searching")
    trials = judged_trials(TrainedJudge(work, Planned(space, work.settings.seed)))
    names = (*work.settings.figures, "latency_ms")  # of equal errors, what is less of the others
    valid = sorted((t for t in trials if t.valid), key=lambda t: [t.figures[name] for name in names])
    best, reasons = train_best(work, valid, trials, space.plan, lambda arch: None)
    recipe = training_recipe(work, best.plan or best.module)
    networks = [best, *mobilenets(work, recipe)]
    if work.settings.way.space == "dense":
        networks += condensenets(work, recipe)
    work.progress.stage("Measuring everything")
    conclude(work, space, width, None, networks, reasons)


def _fit_width(work: Work) -> dict[str, Any]:
    """Choose the widest space of which half the archs keep what the design may use up.

    Raises :class:`BudgetError`, naming the least, where the narrowest has none that keeps the budget.
    """
    if work.settings.width is not None:
        return {"width": work.settings.width}
    kept = _Kept(work)
    wide = bisect_left(range(len(WIDTHS)), 1, key=lambda i: kept.share(WIDTHS[i]) < _KEPT)
    width = WIDTHS[max(0, wide - 1)]
    if kept.share(width) == 0:
        raise BudgetError(
            f"no arch of space '{work.settings.way.space}' that was tried keeps the budget; the least was "
            + ", ".join(f"{name} {kept.least[name]:.4g}" for name in work.aims if name in kept.least)
        )
    return {"width": width}


class _Kept:
    """How many of some archs keep what the design may use up, width by width, each measured once."""

    def __init__(self, work: Work) -> None:
        self._work, self._shares = work, dict[float, float]()
        self.least: dict[str, float] = {}

    def share(self, width: float) -> float:
        """Return the share at a width, 0..1; a width with too many multiply-adds is not measured."""
        if width not in self._shares:
            self._shares[width] = self._share(width)
        return self._shares[width]

    def _share(self, width: float) -> float:
        work = self._work
        space, rng = work.buildable(width), Random(work.settings.seed)
        plans = [space.plan(space.sample(rng)) for _ in range(DRAWN)]
        aims = work.aims
        small = [plan for plan in plans if count_plan(plan).macs <= aims.get("macs", math.inf)]
        if len(small) < _KEPT * DRAWN and width != WIDTHS[0]:
            return len(small) / DRAWN
        found = [figures(plan, work.bench) for plan in plans]
        for name in found[0]:
            self.least[name] = min(self.least.get(name, math.inf), *(f[name] for f in found))
        kept = [all(f[name] <= aim for name, aim in aims.items() if name in f) for f in found]
        return statistics.mean(kept)
