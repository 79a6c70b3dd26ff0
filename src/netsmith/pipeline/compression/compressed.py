"""Designs that begin with a trained network: how many of its channels stay, and the training after that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from netsmith.arch import Arch
from netsmith.compress.agent import check_agent, search_walk
from netsmith.compress.allocation import Widths, by_score, knapsack, uniform
from netsmith.compress.amc import ChannelWalk
from netsmith.errors import BudgetError, FolderError, SettingsError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.base import base_of, whole
from netsmith.pipeline.baselines import mobilenets
from netsmith.pipeline.compression.mixed import int8
from netsmith.pipeline.compression.pruning import Pruning
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import train_best
from netsmith.pipeline.finish import Finished, finish, training_recipe
from netsmith.pipeline.limits import is_share
from netsmith.pipeline.searching.strategy import Hunt, run_strategy
from netsmith.pipeline.settings import Settings, merge, read_toml
from netsmith.pipeline.work import Work
from netsmith.trial import Trial

# Settings that a compression has from its base: the images, and how they are split.
OF_BASE = ("data", "seed", "test", "image_size", "skip_bad", "augment")
OF_OWN = ("mean", "std", "base_weights")  # what only networks of the user's own are given
OF_THE_DEVICE = ("latency", "memory", "size")  # limits that say nothing on another
EPISODES = {"quick": 60, "standard": 200, "thorough": 800}
MEASURED, ROUNDS = 5, 4
# What is aimed at of a limit, and what must be used of it for the search to end.
AIM, SNUG = 0.99, 0.95
# Ways that need no judge: each names one network.
DIRECT: dict[str, Callable[[Pruning, float], Widths]] = {
    "uniform": lambda pruning, limit: uniform(pruning.choices, pruning.cost, limit),
    "magnitude": lambda pruning, limit: by_score(pruning.choices, pruning.magnitude, pruning.cost, limit),
    "knapsack": lambda pruning, limit: knapsack(pruning.choices, pruning.taylor, pruning.cost, limit),
}


def compression(folder: Path, asked: Mapping[str, Any], also: Sequence[str] = ()) -> Settings:
    """Return the settings of a compression of the design in ``folder``: ``asked``, and what comes from there.

    ``also`` names settings that come from there beside the images and the device. Limits may be shares of the
    base's own figures, such as ``"50%"``; what depends on the device only where the device is the base's.
    Raises :class:`FolderError` where there is no finished design, and :class:`SettingsError`.
    """
    Design.load(folder)
    made = merge(read_toml(folder / "design.toml"), {})
    if len(made) != 1:
        raise FolderError(f"{folder} is of several devices; name the folder of one of them inside it")
    mine = sorted({*OF_BASE, *OF_OWN} & set(asked))
    if mine:
        raise SettingsError(f"{folder} is a design, which brings its own {', '.join(mine)}; leave that out")
    values = {**{name: getattr(made[0], name) for name in ("device", *OF_BASE, *also)}, **asked}
    for name in OF_THE_DEVICE:
        if is_share(values.get(name)) and values["device"] != made[0].device:
            raise SettingsError(
                f"{name} {values[name]} would be of what the base takes on {made[0].device}; on "
                f"{values['device']} give it in units"
            )
    return _of_precision(Settings.from_mapping({**values, "base": str(folder)}))


def own_compression(base: str, data: str | None, asked: Mapping[str, Any]) -> Settings:
    """Return the settings of a compression of a network of the user's own; ``base`` is what it is called.

    Limits may be shares of its own figures, such as ``"50%"``, which are found out on the device. Images are
    normalised by nothing where ``asked`` has no ``mean`` and ``std``. Raises :class:`SettingsError`.
    """
    if data is None:
        raise SettingsError(
            "a network of your own needs images to be trained on and measured by: "
            f"netsmith compress {base} DATA"
        )
    settings = {"mean": 0.0, "std": 1.0, **asked, "data": data, "base": base}
    return _of_precision(Settings.from_mapping(settings))


def _of_precision(settings: Settings) -> Settings:
    """The settings with an int8 device, where the precisions of layers are to be chosen."""
    return replace(settings, device=int8(settings.device)) if settings.precision == "mixed" else settings


def compressed_design(work: Work) -> None:
    """Everything from the base to the result."""
    if work.settings.way.strategy == "amc":
        check_agent()  # before anything is measured
    work.read_images()
    work.progress.stage("Reading the network")
    base = base_of(work)
    work.set_threads(base.plan or base.module)
    work.progress.stage("Finding channels that go together")
    pruning = Pruning(work, base)
    work.once("space", lambda: {"id": pruning.space.id, "width": 1.0, "count": str(pruning.space.count())})
    for name, reason in pruning.channels.untouched.items():
        work.progress.say(f"'{name}' keeps its channels: {reason}")
    ranked, measured = _choose(pruning)
    best, reasons = train_best(work, ranked, measured, pruning.plan, pruning.start, pruning.teacher)
    assert best.arch is not None
    best = replace(best, described={"layers": pruning.layers(best.arch)})
    networks = [best, *_beside(pruning)]
    work.progress.stage("Measuring everything")
    conclude(work, pruning.space, 1.0, None, networks, reasons)


def _choose(pruning: Pruning) -> tuple[list[Trial], list[Trial]]:
    """Return the measured trials that keep the budget, the most accurate first, and all that were measured.

    Of equals the one comes first that uses the most: it has more to learn with. Where none keeps the budget,
    or all leave much of a limit of latency, that was predicted wrongly: what is aimed at goes down by as much
    as the closest missed, or up by what was left.
    """
    limit, used = 1.0, pruning.work.budget.used
    found: dict[Arch, Trial] = {}
    measured: dict[Arch, Trial] = {}
    for number in range(ROUNDS):
        pruning.work.progress.stage("Choosing channels" + (", again" if number else ""))
        try:
            archs = _asked(pruning, limit, number)
        except BudgetError:
            if not number:
                raise
            break
        judged = sorted((_judged(pruning, arch) for arch in archs), key=_error)
        trials = [_measured(pruning, trial) for trial in judged[:MEASURED]]
        measured |= {trial.arch: trial for trial in trials}
        kept = {trial.arch: trial for trial in trials if trial.valid}
        if found and not kept:
            break
        found |= kept
        most = max((used(trial.figures) for trial in kept.values()), default=0.0)
        if kept and (most >= SNUG or "latency_ms" not in pruning.limits):
            break
        limit *= AIM / (most if kept else max(1.0, min(used(trial.figures) for trial in trials)))
    ranked = sorted(found.values(), key=lambda trial: (_error(trial), -used(trial.figures)))
    return ranked, list(measured.values())


def _error(trial: Trial) -> float:
    return trial.figures["error"]


def _asked(pruning: Pruning, limit: float, number: int) -> list[Arch]:
    """Return the archs that the strategy finds within ``limit``."""
    work, asked = pruning.work, pruning.work.settings
    strategy, episodes = asked.way.strategy, EPISODES[asked.budget]
    if strategy in DIRECT:
        return [pruning.space.nearest(DIRECT[strategy](pruning, limit))]
    if strategy == "amc":
        walk = ChannelWalk(
            pruning.choices,
            pruning.cost,
            limit,
            lambda widths: 1 - pruning.error(pruning.space.nearest(widths)),
        )
        found: dict[Arch, None] = {}

        def on_episode(episode: int, actions: Sequence[float], reward: float) -> None:
            arch = pruning.space.nearest(walk.widths(actions))
            found[arch] = None
            work.progress.update(episode + 1, episodes, f"validation error {100 * pruning.error(arch):.2f} %")

        simpler = [walk.actions(direct(pruning, limit)) for direct in DIRECT.values()]
        search_walk(walk, shown=simpler, episodes=episodes, seed=asked.seed + number, on_episode=on_episode)
        return list(found)
    hunt = Hunt(
        space=pruning.space,
        draw=partial(pruning.draw, limit=limit),
        allowed=lambda arch: pruning.cost(pruning.space.widths(arch)) <= limit,
        objectives=("error",),
        trials=episodes,
        seed=asked.seed + number,
        known=pruning.known,
    )
    store = work.store(hunt.objectives, pruning.space)

    def on_trial(count: int, trial: Trial) -> None:
        work.progress.update(count, episodes, f"validation error {100 * trial.figures['error']:.2f} %")

    trials = run_strategy(strategy, hunt, partial(_judged, pruning), store, asked.workers, on_trial)
    return [trial.arch for trial in trials]


def _judged(pruning: Pruning, arch: Arch) -> Trial:
    """Return the trial of an arch with its error before any training."""
    known = pruning.work.journal.last("trial", stage="derive", digest=arch.digest)
    if known is not None:
        return Trial.from_dict(known["trial"])
    began = time.perf_counter()
    trial = Trial(arch, {**pruning.known(arch), "error": pruning.error(arch)})
    return _written(pruning, "derive", trial, time.perf_counter() - began)


def _measured(pruning: Pruning, trial: Trial) -> Trial:
    """Return the trial with what was measured of it, and whether that surely keeps the budget."""
    known = pruning.work.journal.last("trial", stage="measure", digest=trial.arch.digest)
    if known is not None:
        return Trial.from_dict(known["trial"])
    found = dict(pruning.measured(trial.arch))
    high = found["latency_ms_high"]
    names = ("latency_ms", "size_bytes", "peak_bytes")
    figures = {**trial.figures, **{name: found[name] for name in names if name in found}}
    reason = pruning.work.budget.broken({**figures, "latency_ms": high})
    return _written(pruning, "measure", Trial(trial.arch, figures, reason), 0.0)


def _written(pruning: Pruning, stage: str, trial: Trial, seconds: float) -> Trial:
    pruning.work.journal.write(
        "trial", stage=stage, digest=trial.arch.digest, trial=trial.to_dict(), seconds=round(seconds, 3)
    )
    return trial


def _beside(pruning: Pruning) -> list[Finished]:
    """Return the base as it was, and what it is pruned everywhere alike and trained as long, if asked for.

    The base of a design that is compressed is always there; what it is compared with is a MobileNetV2, too,
    trained for as long as both parts.
    """
    work = pruning.work
    asked, of_both = work.settings, work.folder.settings
    if asked.baselines == "none":
        return [whole(work, pruning.base)] if of_both.compress else []
    others = [] if asked.way.strategy == "uniform" else ["uniform"]
    if asked.baselines == "full":
        others += [name for name in DIRECT if name not in (asked.way.strategy, "uniform")]
    networks = [whole(work, pruning.base), *(_trained(pruning, name) for name in others)]
    if of_both.compress:
        networks += mobilenets(work, training_recipe(work, pruning.base.plan or pruning.network, of_both))
    return networks


def _trained(pruning: Pruning, name: str) -> Finished:
    work = pruning.work
    work.progress.stage(f"Baseline {name}")
    arch = pruning.space.nearest(DIRECT[name](pruning, 1.0))
    plan, start = pruning.plan(arch), pruning.start(arch)
    recipe = training_recipe(work, plan or start)
    return finish(work, name, name, plan, recipe, arch=arch, start=start, teacher=pruning.teacher)
