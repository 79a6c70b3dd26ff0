"""Designs whose archs are each trained for a short while, of any space that can be built.

An arch is judged by its validation error after a training that is a small share of the final one, and by what
needs none: counts, and what its file, with untrained weights, takes on the device.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from bisect import bisect_left
from functools import partial
from random import Random
from typing import Any

import torch

from netsmith.arch import Arch
from netsmith.errors import BudgetError, SettingsError, TrainingError
from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.pipeline.baselines import condensenets, mobilenets
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import train_best
from netsmith.pipeline.finish import deployable, training_recipe
from netsmith.pipeline.searching.reach import WIDTHS, activation_bytes, figures
from netsmith.pipeline.searching.strategy import Hunt, run_strategy
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.spaces.dense import DenseSpace
from netsmith.spaces.space import BuildableSpace
from netsmith.train import Recipe, fit_recipe, train
from netsmith.trial import Trial

TRAININGS = {"quick": 24, "standard": 64, "thorough": 256}
# Of the multiply-adds that a final training may take, what the training of one trial may.
SHARE = {"quick": 1 / 24, "standard": 1 / 32, "thorough": 1 / 64}
# A width is worth searching where so many of some archs keep the budget.
_DRAWN, _KEPT = 8, 0.5


class TrainedJudge:
    """Judges archs of ``space`` by what is known without training, and by their error after a short one.

    Archs of equal plans are one network, such as a cell and the same with no norm behind it: it is measured
    and trained once.
    """

    def __init__(self, work: Work, space: BuildableSpace) -> None:
        self.work, self.space = work, space

    def known(self, arch: Arch) -> dict[str, float]:
        """Return the counts of an arch and its measured latency; it is measured once."""
        plan = self.space.plan(arch)
        found = self.work.once("known", partial(self._measured, plan), plan=_digest(plan))
        return dict(found["figures"])

    def samples(self, arch: Arch) -> dict[str, list[float]]:
        """Return the samples of what was measured of an arch."""
        return dict(self.work.once("known", dict, plan=_digest(self.space.plan(arch)))["samples"])

    def allowed(self, arch: Arch) -> bool:
        """Whether an arch keeps every limit that is known without training."""
        return not self.work.budget.broken(self.known(arch))

    def __call__(self, arch: Arch) -> Trial:
        """Return the trial of an arch. One that breaks a limit is not trained."""
        known = self.known(arch)
        reason = self.work.budget.broken(known)
        if reason:
            return Trial(arch, known, reason)
        plan = self.space.plan(arch)
        trained = self.work.once("trained", partial(self._trained, plan), plan=_digest(plan))
        if trained["reason"]:
            return Trial(arch, known, trained["reason"])
        return Trial(arch, {**known, "error": 1 - trained["accuracy"]})

    def recipe(self, plan: Plan) -> Recipe:
        """Return the recipe of one trial's training: the final one's, shortened."""
        asked, images = self.work.settings, len(self.work.splits.train)
        share, macs = SHARE[asked.budget], count_plan(plan).macs
        return fit_recipe(images, macs, asked.budget, epochs=asked.search_epochs, share=share)

    def _measured(self, plan: Plan) -> dict[str, Any]:
        work = self.work
        device, shape = work.bench.device, work.splits.input_shape
        model = device.export(deployable(work, Network(plan)), shape, input_type="uint8")
        counts = count_plan(plan)
        latency = work.bench.time_files({"it": model}, width=0.03, limit_s=1.0)["it"]
        found = {
            "latency_ms": latency.median_ms,
            "macs": float(counts.macs),
            "params": float(counts.params),
            "size_bytes": float(len(model)),
            "activation_bytes": float(activation_bytes(counts, device.precision)),
        }
        if work.budget.peak_bytes is not None or "peak_bytes" in work.settings.figures:
            found["peak_bytes"] = float(device.footprint(model).peak_bytes)
        return {"figures": found, "samples": {"latency_ms": list(latency.corrected_ms)}}

    def _trained(self, plan: Plan) -> dict[str, Any]:
        """Train a network for a short while, and return its validation accuracy or why there is none.

        A training that was killed goes on.
        """
        work = self.work
        recipe, splits = self.recipe(plan), work.splits
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(work.settings.seed)
            module = Network(plan)
        policy = work.policy(recipe.passes(len(splits.train)))
        images = work.loader(
            splits.train, recipe.batch_size, policy=policy, salt=5, limit=recipe.epoch_images
        )
        checkpoint = work.folder.checkpoints / f"trial-{_digest(plan)}.safetensors"
        found: dict[str, Any] = {"accuracy": None, "reason": ""}
        try:
            outcome = train(
                module, images, work.scoring, recipe, seed=work.settings.seed, checkpoint=checkpoint
            )
            found["accuracy"] = outcome.last.accuracy
        except TrainingError as error:
            found["reason"] = str(error)
        checkpoint.unlink(missing_ok=True)
        return found


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
    trials = trained_trials(work, space)
    names = (*work.settings.figures, "latency_ms")  # of equal errors, what is less of the others
    valid = sorted((t for t in trials if t.valid), key=lambda t: [t.figures[name] for name in names])
    best, reasons = train_best(work, valid, trials, space.plan, lambda arch: None)
    recipe = training_recipe(work, best.plan or best.module)
    networks = [best, *mobilenets(work, recipe)]
    if work.settings.way.space == "dense":
        networks += condensenets(work, recipe)
    work.progress.stage("Measuring everything")
    conclude(work, space, width, None, networks, reasons)


def trained_trials(work: Work, space: BuildableSpace) -> list[Trial]:
    """Return every trial that the settings' strategy asked for, in their order; none is judged twice."""
    train_and_judge, asked = TrainedJudge(work, space), work.settings
    hunt = Hunt(
        space=space,
        draw=partial(_draw, space, train_and_judge),
        allowed=train_and_judge.allowed,
        objectives=asked.figures,
        trials=TRAININGS[asked.budget],
        seed=asked.seed,
        known=train_and_judge.known,
    )
    seconds: dict[Arch, float] = {}

    def judge(arch: Arch) -> Trial:
        known = work.journal.last("trial", stage="measure", digest=arch.digest)
        if known is not None:
            return Trial.from_dict(known["trial"])
        began = time.perf_counter()
        trial = train_and_judge(arch)
        seconds[arch] = round(time.perf_counter() - began, 3)
        return trial

    def on_trial(count: int, trial: Trial) -> None:
        found = {
            "trial": trial.to_dict(),
            "words": _words(space, trial.arch),
            "seconds": seconds.get(trial.arch, 0.0),  # 0 where another worker judged it
        }
        work.once("trial", lambda: found, stage="measure", digest=trial.arch.digest)
        error = trial.figures.get("error")
        work.progress.update(count, hunt.trials, trial.reason if error is None else _said(trial))

    store = work.store(hunt.objectives, space)
    return run_strategy(
        asked.way.strategy, hunt, judge, store, asked.workers, on_trial, train_and_judge.samples
    )


def _digest(plan: Plan) -> str:
    return hashlib.blake2b(json.dumps(plan.to_list()).encode(), digest_size=8).hexdigest()


def _draw(space: BuildableSpace, judge: TrainedJudge, rng: Random) -> Arch:
    """Draw an arch, one that keeps the budget where a few draws find one."""
    for _ in range(_DRAWN):
        arch = space.sample(rng)
        if judge.allowed(arch):
            break
    return arch


def _words(space: BuildableSpace, arch: Arch) -> str:
    """Tell a cell by the names of its layers; other spaces are told by the report."""
    return ", ".join(space.describe(arch)) if isinstance(space, DenseSpace) else ""


def _said(trial: Trial) -> str:
    return f"validation error {100 * trial.figures['error']:.2f} %, {trial.figures['latency_ms']:.3g} ms"


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
        plans = [space.plan(space.sample(rng)) for _ in range(_DRAWN)]
        aims = work.aims
        small = [plan for plan in plans if count_plan(plan).macs <= aims.get("macs", math.inf)]
        if len(small) < _KEPT * _DRAWN and width != WIDTHS[0]:
            return len(small) / _DRAWN
        found = [figures(plan, work.bench) for plan in plans]
        for name in found[0]:
            self.least[name] = min(self.least.get(name, math.inf), *(f[name] for f in found))
        kept = [all(f[name] <= aim for name, aim in aims.items() if name in f) for f in found]
        return statistics.mean(kept)
