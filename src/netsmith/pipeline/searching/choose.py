"""Choosing: archs derived from a search, or asked for by a searcher, scored on validation and measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import cast

import torch

from netsmith import pareto
from netsmith.arch import Arch
from netsmith.devices.device import WEIGHT_BYTES
from netsmith.errors import BudgetError
from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.searching.seek import MARGIN, Quest
from netsmith.pipeline.searching.strategy import Hunt, run_strategy
from netsmith.pipeline.work import EVALUATION_BATCH
from netsmith.search.additive import AdditiveCost
from netsmith.supernet.derive import OpenPaths, derive
from netsmith.supernet.search import ProxylessSearch
from netsmith.train import Evaluation, evaluate, place, recalibrate
from netsmith.trial import Trial

SCORED = {"quick": 12, "standard": 32, "thorough": 96}
EVALUATIONS = {"quick": 48, "standard": 128, "thorough": 400}
MEASURED, FRONT_MEASURED = 5, 16
CALIBRATION_BATCHES = 8
ROUNDS = 4
# What is far under the limit is passed over: on a supernet that learned for a short while small archs look
# better than they are, and what the budget allows in the end pays.
LEAST_USE = 0.95
# A figure that is measured of the best alone, and what stands in for it before.
_BEFORE_MEASURING = {"latency_ms": "latency_ms_predicted", "peak_bytes": "activation_bytes"}


class Chooser:
    """Finds archs that keep the budget by measurement, and ranks them by accuracy on validation."""

    def __init__(self, quest: Quest, search: ProxylessSearch, number: int = 0) -> None:
        """Choose among the paths of the aim ``number`` of ``search``, which is that of the quest."""
        work = self.work = quest.work
        self.search, self.figure, self.target = search, quest.figure, quest.target
        self.paths = search.aims[number].paths
        self.costs, self.latency = AdditiveCost(*quest.costs), AdditiveCost(*quest.latency)
        self.open = OpenPaths(self.paths, self.costs)
        self._normalize = Normalize(work.splits.mean, work.splits.std)
        self._calibration = work.loader(work.splits.train, EVALUATION_BATCH, salt=3)

    def choose(self) -> list[Trial]:
        """Return the measured trials that keep the budget, best first; none where none was found.

        Those that keep it with room to spare come before those that another measurement may find over it.
        Where everything measured misses the budget, the search goes on tighter by as much as it missed.
        """
        if len(self.work.settings.figures) > 1:
            return self._front()
        limit = self.target
        for round_number in range(ROUNDS):
            try:
                archs = self._derive(limit, round_number)
            except BudgetError:
                break
            scored = sorted((self.score(arch) for arch in archs), key=lambda t: t.figures["error"])
            measured = self.measure([trial for trial in scored if trial.valid][:MEASURED])
            kept = [trial for trial in measured if trial.valid]
            if kept:
                return sorted(kept, key=lambda t: (self._close(t), t.figures["error"]))
            limit *= 0.99 * self._overshoot(measured)
        return []

    def known(self, arch: Arch) -> dict[str, float]:
        """Return what is known of an arch without its weights: counts and the predicted latency."""
        counts = count_plan(self.search.space.plan(arch))
        precision = self.work.bench.device.precision
        return {
            "latency_ms_predicted": self.latency.of(arch.choices),
            "macs": float(counts.macs),
            "params": float(counts.params),
            "size_bytes": float(counts.params * WEIGHT_BYTES[precision]),
            "activation_bytes": float(activation_bytes(counts, precision)),
        }

    def score(self, arch: Arch, stage: str = "derive") -> Trial:
        """Return the trial of ``arch`` with its counts and its validation error on the supernet's weights."""
        known = self._known(stage, arch)
        if known is not None:
            return known
        figures, started = self.known(arch), time.perf_counter()
        reason = self.work.budget.broken(figures)
        if not reason:
            figures["error"] = 1 - self._evaluate(arch).accuracy
        return self._write(stage, Trial(arch, figures, reason), time.perf_counter() - started)

    def start(self, arch: Arch) -> Network | None:
        """Return the supernet's weights of ``arch``, where a training is to start from them."""
        return self.search.extract(arch) if self.work.settings.start == "supernet" else None

    def measured(self) -> list[Trial]:
        """Return every trial that was measured; the cheapest arch's, as predicted, where none was."""
        records = self.work.journal.all("trial", stage="measure")
        return [Trial.from_dict(r["trial"]) for r in records] or [self.score(self.open.cheapest())]

    def measure(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials with their measured latency and size, exported with untrained weights."""
        known = {t.arch: self._known("measure", t.arch) for t in trials}
        missing = [t for t in trials if known[t.arch] is None]
        device = self.work.bench.device
        shape = self.work.splits.input_shape
        models = {t.arch.digest: device.export(self._exportable(t.arch), shape, input_type="uint8")
                  for t in missing}  # fmt: skip
        latencies = self.work.bench.time_files(models) if missing else {}
        for trial in missing:
            latency = latencies[trial.arch.digest]
            figures = {
                **trial.figures,
                "latency_ms": latency.median_ms,
                "size_bytes": float(len(models[trial.arch.digest])),
            }
            if self.work.budget.peak_bytes is not None or "peak_bytes" in self.work.settings.figures:
                used = device.footprint(models[trial.arch.digest])
                figures["peak_bytes"] = float(used.peak_bytes)
            # The upper end of the interval: a median that is within only by luck is not within.
            doubted = {**figures, "latency_ms": latency.interval_ms[1]}
            known[trial.arch] = self._write(
                "measure", Trial(trial.arch, figures, self.work.budget.broken(doubted)), 0.0
            )
        return [cast(Trial, known[t.arch]) for t in trials]

    def _derive(self, limit: float, round_number: int) -> list[Arch]:
        asked = self.work.settings
        number, seed = SCORED[asked.budget], asked.seed * 1009 + round_number
        if asked.way.strategy != "proxyless":
            trials = [t for t in self._searched(LEAST_USE * limit, limit, seed) if t.valid]
            return [t.arch for t in sorted(trials, key=lambda t: t.figures["error"])][:number]
        return derive(self.paths, self.costs, limit, number, seed, least_use=LEAST_USE)

    def _searched(self, low: float, high: float, seed: int) -> list[Trial]:
        """Return the trials of the archs that a searcher asked for among those of cost ``low``..``high``.

        The least is given up where no arch costs that much. Raises :class:`BudgetError` where none costs as
        little as the most.
        """
        asked, left_open = self.work.settings, self.open
        number = EVALUATIONS[asked.budget]
        try:
            left_open.draw(Random(seed), high, low)
        except BudgetError:
            low = 0.0
            left_open.draw(Random(seed), high)
        hunt = Hunt(
            space=self.search.space,
            draw=lambda rng: left_open.draw(rng, high, low),
            allowed=lambda arch: arch in left_open and low <= left_open.cost(arch) <= high,
            objectives=tuple(_BEFORE_MEASURING.get(name, name) for name in asked.figures),
            trials=number,
            seed=seed,
            known=self.known,
        )

        def on_trial(count: int, trial: Trial) -> None:
            if self._known("derive", trial.arch) is None:  # another worker judged it
                self._write("derive", trial, 0.0)
            error = trial.figures.get("error")
            note = trial.reason if error is None else f"validation error {100 * error:.2f} %"
            self.work.progress.update(count, number, note)

        store = self.work.store(hunt.objectives, hunt.space)
        return run_strategy(asked.way.strategy, hunt, self.score, store, asked.workers, on_trial)

    def _front(self) -> list[Trial]:
        """Return the trials of a front, measured, that keep the budget: those of the least error first."""
        names = [_BEFORE_MEASURING.get(name, name) for name in self.work.settings.figures]
        trials = [t for t in self._searched(0.0, self.target, self.work.settings.seed) if t.valid]
        points = [[t.figures[name] for name in names] for t in trials]
        worths = pareto.worths(points)
        order = sorted(range(len(trials)), key=worths.__getitem__)
        best = [trials[i] for i in order if worths[i][0] == 0][:FRONT_MEASURED]
        kept = (trial for trial in self.measure(best) if trial.valid)
        return sorted(kept, key=lambda t: [t.figures[name] for name in self.work.settings.figures])

    def _close(self, trial: Trial) -> bool:
        """Whether the measured latency is so close to the limit that another measurement may be over it."""
        limit = self.work.budget.latency_ms
        return limit is not None and trial.figures["latency_ms"] > MARGIN * limit

    def _overshoot(self, measured: Sequence[Trial]) -> float:
        """How much of what was measured the budget allows, at most 0.97; 0.9 where nothing was measured."""
        limits = self.work.budget.limits()
        shares = [limits[name] / trial.figures[name]
                  for trial in measured for name in limits if name in trial.figures]  # fmt: skip
        return min([0.97, max(shares)]) if shares else 0.9

    def _exportable(self, arch: Arch) -> torch.nn.Module:
        return torch.nn.Sequential(self._normalize, self.search.extract(arch)).eval()

    def _evaluate(self, arch: Arch) -> Evaluation:
        network = place(self.search.extract(arch), self.search.device)
        recalibrate(network, self._calibration, CALIBRATION_BATCHES)
        return evaluate(network, self.work.scoring)

    def _known(self, stage: str, arch: Arch) -> Trial | None:
        record = self.work.journal.last("trial", stage=stage, digest=arch.digest)
        return None if record is None else Trial.from_dict(record["trial"])

    def _write(self, stage: str, trial: Trial, seconds: float) -> Trial:
        self.work.journal.write(
            "trial", stage=stage, digest=trial.arch.digest, trial=trial.to_dict(), seconds=round(seconds, 3)
        )
        return trial
