"""Searching: the supernet trained, then archs derived, scored on validation and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch

from netsmith.arch import Arch
from netsmith.costs import Costs
from netsmith.data import batch_generator
from netsmith.devices.device import WEIGHT_BYTES
from netsmith.errors import BudgetError
from netsmith.latency.model import LatencyModel
from netsmith.nn.count import count_plan
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.pipeline.reach import Reach, shallow
from netsmith.pipeline.strategy import EVALUATIONS, search_archs
from netsmith.pipeline.work import EVALUATION_BATCH, SEARCH_BATCH, Work
from netsmith.plan import Block, Plan
from netsmith.search.additive import AdditiveCost
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.derive import OpenPaths, derive
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.paths import Paths
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.search import ProxylessSearch, SearchEpoch
from netsmith.train import Evaluation, evaluate, fit_recipe, place, recalibrate
from netsmith.trial import Trial

SCORED = {"quick": 12, "standard": 32, "thorough": 96}
MEASURED = 5
CALIBRATION_BATCHES = 8
SCORING_IMAGES = 4000
ROUNDS = 4
WARMUP_SHARE = 0.4
# The search aims a little below the limit, since a prediction is not a measurement, and two measurements
# of one network differ by about as much.
MARGIN = 0.98
# What is far under the limit is passed over: on a supernet that learned for a short while small archs look
# better than they are, and what the budget allows in the end pays.
LEAST_USE = 0.95


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
    warmup = max(1, round(WARMUP_SHARE * epochs)) if asked.strategy == "proxyless" else epochs
    recipe = SearchRecipe(
        epochs=epochs,
        warmup_epochs=warmup,
        weights=cast(Literal["shared", "own"], asked.weights),
        update=cast(Literal["gradient", "reinforce"], asked.update),
    )
    return recipe, fitted.epoch_images


def trial_step(work: Work, space: ChainSpace) -> Callable[[], None]:
    """Return a training step of a shallow arch on images of the right shape, to be timed."""
    network = place(Network(space.plan(shallow(space))), torch.device("cpu"))
    x = torch.zeros(SEARCH_BATCH, *work.splits.input_shape).to(memory_format=torch.channels_last)

    def step() -> None:
        network(x).sum().backward()

    return step


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
        splits = work.splits
        images = splits.validation
        if len(images) > SCORING_IMAGES:
            order = torch.randperm(len(images), generator=batch_generator(0, "scoring"))
            images = images.subset(order[:SCORING_IMAGES])
        self._validation = work.loader(images, EVALUATION_BATCH, shuffle=False)
        self._calibration = work.loader(splits.train, EVALUATION_BATCH, salt=3)

    def choose(self) -> list[Trial]:
        """Return the measured trials that keep the budget, best first; none where none was found.

        Those that keep it with room to spare come before those that another measurement may find over it.
        Where everything measured misses the budget, the search goes on tighter by as much as it missed.
        """
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

    def score(self, arch: Arch, stage: str = "derive") -> Trial:
        """Return the trial of ``arch`` with its counts and its validation error on the supernet's weights."""
        known = self._known(stage, arch)
        if known is not None:
            return known
        plan, started = self.search.space.plan(arch), time.perf_counter()
        counts = count_plan(plan)
        figures = {
            "latency_ms_predicted": self.latency.of(arch.choices),
            "macs": float(counts.macs),
            "params": float(counts.params),
            "size_bytes": float(counts.params * WEIGHT_BYTES[self.work.bench.device.precision]),
        }
        reason = self.work.budget.broken(figures)
        if not reason:
            figures["error"] = 1 - self._evaluate(arch).accuracy
        return self._write(stage, Trial(arch, figures, reason), time.perf_counter() - started)

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
            if self.work.budget.peak_bytes is not None:
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
        if asked.strategy != "proxyless":
            return self._searched(limit, seed)[:number]
        return derive(self.paths, self.costs, limit, number, seed, least_use=LEAST_USE)

    def _searched(self, limit: float, seed: int) -> list[Arch]:
        """Return the archs that a searcher had judged, best first."""
        asked = self.work.settings
        evaluations, limits = EVALUATIONS[asked.budget], (LEAST_USE * limit, limit)

        def on_trial(number: int, trial: Trial) -> None:
            error = trial.figures.get("error")
            note = trial.reason if error is None else f"validation error {100 * error:.2f} %"
            self.work.progress.update(number, evaluations, note)

        return search_archs(
            asked.strategy, self.search.space, self.open, self.score, limits, evaluations, seed, on_trial
        )

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
        return evaluate(network, self._validation)

    def _known(self, stage: str, arch: Arch) -> Trial | None:
        record = self.work.journal.last("trial", stage=stage, digest=arch.digest)
        return None if record is None else Trial.from_dict(record["trial"])

    def _write(self, stage: str, trial: Trial, seconds: float) -> Trial:
        self.work.journal.write(
            "trial", stage=stage, digest=trial.arch.digest, trial=trial.to_dict(), seconds=round(seconds, 3)
        )
        return trial


def _counted(space: ChainSpace, figure: str, scale: float) -> Costs:
    """The costs of a count that adds up over blocks."""

    def of(*blocks: Block) -> float:
        return scale * float(getattr(count_plan(Plan(blocks)), figure))

    constant = of(*space.stem) + of(*space.head)
    return Costs(constant, [[of(block) for block in options] for options in space.edges])
