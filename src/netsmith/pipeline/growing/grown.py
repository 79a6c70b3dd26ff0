"""Designs that begin with a trained network and grow paths in it: all their steps, in order."""

from __future__ import annotations

import copy
from dataclasses import replace

from netsmith.errors import BudgetError, SettingsError
from netsmith.pipeline.base import Base, whole
from netsmith.pipeline.baselines import mobilenets
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import train_best
from netsmith.pipeline.finish import Finished, finish, training_recipe
from netsmith.pipeline.growing.growth import Growth
from netsmith.pipeline.growing.start import begun_with
from netsmith.pipeline.searching.short_training import TrainedJudge, judged_trials
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work

FEW = 5  # trees within the limits, so that fewer are worth a warning


def grown_design(work: Work) -> None:
    """Everything from the base to the result."""
    if isinstance(work.bench.device, TableDevice):
        raise SettingsError("a table of latencies knows whole blocks, not the paths inside; name a device")
    work.read_images()
    base = begun_with(work)
    work.set_threads(base.module)
    growth = Growth(work, base)
    space = growth.space
    work.once("space", lambda: {"id": space.id, "width": 1.0, "count": str(space.count())})
    for name, reason in growth.untouched.items():
        work.progress.say(f"'{name}' does not grow: {reason}")
    judge = TrainedJudge(work, growth)
    _check_room(judge, growth)
    work.progress.stage("Searching")
    trials = judged_trials(judge, beside=[growth.least])
    fitting = sum(trial.valid and trial.arch != growth.least for trial in trials)
    if fitting < FEW:
        work.warn(
            f"only {fitting} trees were found that keep the limits; with more room there is more to choose "
            "from"
        )
    # Of equals the one that has the most to learn with: the base as it is wins where it alone is best.
    ranked = sorted((t for t in trials if t.valid), key=lambda t: (t.figures["error"], -t.figures["params"]))
    best, reasons = train_best(work, ranked, trials, lambda arch: None, growth.begun)
    assert best.arch is not None
    best = replace(best, described=growth.described(best.arch))
    work.progress.stage("Measuring everything")
    conclude(work, space, 1.0, None, [best, *_beside(work, base)], reasons)


def _check_room(judge: TrainedJudge, growth: Growth) -> None:
    """Raise :class:`BudgetError` where the base alone is over the limits: growing only adds to it."""
    broken = judge.work.budget.broken(judge.known(growth.least))
    if broken:
        raise BudgetError(
            f"the network to begin with is over the limits before it grows: {broken}. Allow for more, or "
            "take channels out of it: netsmith compress"
        )


def _beside(work: Work, base: Base) -> list[Finished]:
    """Return the base as it was and trained on for as long, and MobileNetV2, as the settings ask."""
    if work.settings.baselines == "none":
        return []
    work.progress.stage("Baseline base-trained-on")
    recipe = training_recipe(work, base.module)
    name = "base-trained-on"
    networks = [
        whole(work, base),
        finish(work, name, name, None, recipe, arch=None, start=copy.deepcopy(base.module)),
    ]
    return networks + (list(mobilenets(work, recipe)) if work.settings.baselines == "full" else [])
