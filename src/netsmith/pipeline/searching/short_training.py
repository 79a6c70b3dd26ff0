"""The search among archs that are each trained for a short while.

An arch is judged by its validation error after a training that is a small share of the final one, and by what
needs none: counts, and what its file, with untrained weights, takes on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol

from torch import nn

from netsmith.arch import Arch
from netsmith.devices.measure import Latency
from netsmith.errors import TrainingError
from netsmith.nn.count import Counts
from netsmith.pipeline.finish import counts_of, deployable
from netsmith.pipeline.searching.forecast import Forecast
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.searching.strategy import Hunt, run_strategy
from netsmith.pipeline.work import Work
from netsmith.spaces.space import NamedSpace
from netsmith.train import Recipe, fit_recipe, train
from netsmith.trial import Trial

TRAININGS = {"quick": 24, "standard": 64, "thorough": 256}
# Of the multiply-adds that a final training may take, what the training of one trial may.
SHARE = {"quick": 1 / 24, "standard": 1 / 32, "thorough": 1 / 64}
# How many archs are looked at for one that keeps the budget, and drawn where most of them are hopeless.
DRAWN, MOST_DRAWN = 8, 400
STEPS = 8  # of a walk from the least arch, where draws find nothing
# Times a limit of latency: what should take more is not made at all, what takes more not timed with care.
HOPELESS, FAR = 1.4, 1.2


class Candidates(Protocol):
    """The networks of a space's archs, as a search by short trainings needs them."""

    @property
    def space(self) -> NamedSpace:
        """The set of archs."""

    @property
    def least(self) -> Arch | None:
        """The arch that all others add to, if there is one."""

    def key(self, arch: Arch) -> str:
        """Return what all archs of one network have in common: it is measured and trained once."""

    def counts(self, arch: Arch) -> Counts:
        """Count the network of an arch."""

    def made(self, arch: Arch) -> nn.Module:
        """Return the network with any weights, to be measured."""

    def begun(self, arch: Arch) -> nn.Module:
        """Return the network as its training begins, the same each time."""

    def suited(self, recipe: Recipe) -> Recipe:
        """Return the recipe of a training from scratch as these are trained by it."""

    def words(self, arch: Arch) -> str:
        """Tell an arch in words; empty where the report draws it."""

    def features(self, arch: Arch) -> Sequence[float]:
        """Return what latency is about a sum over, found in no time; nothing where there is no such."""


class TrainedJudge:
    """Judges archs by what is known without training, and by their error after a short one."""

    def __init__(self, work: Work, candidates: Candidates) -> None:
        self.work, self.candidates = work, candidates
        self._forecast = Forecast()

    def known(self, arch: Arch) -> dict[str, float]:
        """Return the counts of an arch and its measured latency; it is measured once."""
        key = self.candidates.key(arch)
        found = self.work.once("known", partial(self._measured, arch), network=key)
        self._forecast.add(self.candidates.features(arch), found["figures"]["latency_ms"])
        return dict(found["figures"])

    def samples(self, arch: Arch) -> dict[str, list[float]]:
        """Return the samples of what was measured of an arch."""
        return dict(self.work.once("known", dict, network=self.candidates.key(arch))["samples"])

    def allowed(self, arch: Arch) -> bool:
        """Whether an arch keeps every limit that is known without training; what breaks some is not timed."""
        if self._hopeless(arch):
            return False
        budget, counts = self.work.budget, self.candidates.counts(arch)
        if budget.broken({"macs": counts.macs, "params": counts.params}):
            return False
        return not budget.broken(self.known(arch))

    def draw(self, rng: Random) -> Arch:
        """Draw an arch, one that keeps the budget where a few draws or a walk from the least find one."""
        looked_at = 0
        for _ in range(MOST_DRAWN):
            arch = self.candidates.space.sample(rng)
            if self._hopeless(arch):
                continue
            looked_at += 1
            if self.allowed(arch):
                return arch
            if looked_at == DRAWN:
                break
        least = self.candidates.least
        return arch if least is None else self._walked(least, rng)

    def _walked(self, arch: Arch, rng: Random) -> Arch:
        """Go some steps from an arch to neighbours that keep the budget."""
        for _ in range(rng.randint(1, STEPS)):
            neighbour = self.candidates.space.mutate(arch, rng)
            if self.allowed(neighbour):
                arch = neighbour
        return arch

    def __call__(self, arch: Arch) -> Trial:
        """Return the trial of an arch. One that breaks a limit is not trained."""
        known = self.known(arch)
        reason = self.work.budget.broken(known)
        if reason:
            return Trial(arch, known, reason)
        key = self.candidates.key(arch)
        trained = self.work.once("trained", partial(self._trained, arch), network=key)
        if trained["reason"]:
            return Trial(arch, known, trained["reason"])
        return Trial(arch, {**known, "error": 1 - trained["accuracy"]})

    def recipe(self, arch: Arch) -> Recipe:
        """Return the recipe of one trial's training: the final one's, shortened."""
        asked, images = self.work.settings, len(self.work.splits.train)
        share, macs = SHARE[asked.budget], self.candidates.counts(arch).macs
        whole = fit_recipe(images, macs, asked.budget, epochs=asked.search_epochs, share=share)
        return self.candidates.suited(whole)

    def _hopeless(self, arch: Arch) -> bool:
        """Whether an arch should be far over a limit of latency, by those that were measured."""
        limit = self.work.budget.latency_ms
        return limit is not None and self._forecast.over(self.candidates.features(arch), HOPELESS * limit)

    def _measured(self, arch: Arch) -> dict[str, Any]:
        return measured(self.work, self.candidates.made(arch), self.candidates.counts(arch))

    def _trained(self, arch: Arch) -> dict[str, Any]:
        """Train a network for a short while, and return its validation accuracy or why there is none.

        A training that was killed goes on.
        """
        work, recipe = self.work, self.recipe(arch)
        splits, seed = work.splits, work.settings.seed
        policy = work.policy(recipe.passes(len(splits.train)))
        images = work.loader(
            splits.train, recipe.batch_size, policy=policy, salt=5, limit=recipe.epoch_images
        )
        checkpoint = work.folder.checkpoints / f"trial-{self.candidates.key(arch)}.safetensors"
        found: dict[str, Any] = {"accuracy": None, "reason": ""}
        try:
            module = self.candidates.begun(arch)
            outcome = train(module, images, work.scoring, recipe, seed=seed, checkpoint=checkpoint)
            found["accuracy"] = outcome.last.accuracy
        except TrainingError as error:
            found["reason"] = str(error)
        checkpoint.unlink(missing_ok=True)
        return found


def measured(work: Work, module: nn.Module, counts: Counts | None = None) -> dict[str, Any]:
    """Return the ``figures`` that a network has without training, and the ``samples`` of its latency."""
    device, shape = work.bench.device, work.splits.input_shape
    counts = counts_of(work, module) if counts is None else counts
    model = device.export(deployable(work, module), shape, input_type="uint8")
    latency = _timed(work, model)
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


def _timed(work: Work, model: bytes) -> Latency:
    """Time a file; roughly where it is far over a limit."""
    limit = work.budget.latency_ms
    if limit is not None:
        rough = work.bench.time_files({"it": model}, width=0.25, limit_s=0.1)["it"]
        if rough.interval_ms[0] > FAR * limit:
            return rough
    return work.bench.time_files({"it": model}, width=0.03, limit_s=1.0)["it"]


def judged_trials(judge: TrainedJudge, beside: Sequence[Arch] = ()) -> list[Trial]:
    """Return every trial that the settings' strategy asked for, in their order; none is judged twice.

    Those of the archs ``beside`` follow, which no strategy is told of.
    """
    work, candidates = judge.work, judge.candidates
    asked = work.settings
    hunt = Hunt(
        space=candidates.space,
        draw=judge.draw,
        allowed=judge.allowed,
        objectives=asked.figures,
        trials=TRAININGS[asked.budget],
        seed=asked.seed,
        known=judge.known,
    )
    judged, seconds = _journalled(judge)

    def on_trial(count: int, trial: Trial) -> None:
        found = {
            "trial": trial.to_dict(),
            "words": candidates.words(trial.arch),
            "seconds": seconds.get(trial.arch, 0.0),  # 0 where another worker judged it
        }
        work.once("trial", lambda: found, stage="measure", digest=trial.arch.digest)
        error = trial.figures.get("error")
        work.progress.update(count, hunt.trials, trial.reason if error is None else _said(trial))

    store = work.store(hunt.objectives, candidates.space)
    trials = run_strategy(asked.way.strategy, hunt, judged, store, asked.workers, on_trial, judge.samples)
    others = [judged(arch) for arch in beside if arch not in {trial.arch for trial in trials}]
    for trial in others:
        on_trial(hunt.trials, trial)
    return [*trials, *others]


def _journalled(judge: TrainedJudge) -> tuple[Callable[[Arch], Trial], dict[Arch, float]]:
    """The judge, which reads what the journal knows, and the seconds that each of its judgements took."""
    seconds: dict[Arch, float] = {}

    def judged(arch: Arch) -> Trial:
        known = judge.work.journal.last("trial", stage="measure", digest=arch.digest)
        if known is not None:
            return Trial.from_dict(known["trial"])
        began = time.perf_counter()
        trial = judge(arch)
        seconds[arch] = round(time.perf_counter() - began, 3)
        return trial

    return judged, seconds


def _said(trial: Trial) -> str:
    return f"validation error {100 * trial.figures['error']:.2f} %, {trial.figures['latency_ms']:.3g} ms"
