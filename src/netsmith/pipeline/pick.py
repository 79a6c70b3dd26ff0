"""Another point of a finished design's front: trained as the design was, exported, measured and proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.devices.measure import Latency
from netsmith.errors import BudgetError, FolderError
from netsmith.latency.model import LatencyModel
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.answer import Design
from netsmith.pipeline.base import base_of
from netsmith.pipeline.compression.pruning import Pruning
from netsmith.pipeline.conclude import answer_of, predicted, write_answer
from netsmith.pipeline.deliver import verify
from netsmith.pipeline.design import quest_of
from netsmith.pipeline.finish import finish, report_figures, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.growing.growth import Growth
from netsmith.pipeline.growing.start import begun_with
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.searching.seek import run_search
from netsmith.pipeline.settings import Settings, merge, read_toml
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.report import write_report
from netsmith.spaces.pruned import WidthSpace
from netsmith.spaces.space import BuildableSpace
from netsmith.spaces.tree import TreeSpace
from netsmith.trial import Trial

PLACE = "picks"


def pick(
    folder: Path, budget: Budget, *, digest: str = "", source: Any = None, progress: Progress | None = None
) -> Design:
    """Train the most accurate trial of a design's front that keeps ``budget``, and return it as a design.

    ``digest`` names one by the beginning of its arch's digest instead. What is picked stands in a folder of
    its own in that of the design, whose report shows it; picked again it is read. ``source`` is the PyTorch
    dataset of a design that had one. Raises :class:`FolderError` where there is no finished design,
    :class:`BudgetError` where no trial of the front is asked for so.
    """
    keep_memory()
    design, settings = Design.load(folder), _settings_of(folder)
    if not settings.way.of_archs:
        raise FolderError(
            f"the points of the front of {folder} are not archs: each is a controller's choice of "
            "paths. Design again for another latency"
        )
    if not settings.way.trains:
        raise FolderError(
            f"the points of the front of {folder} are files of one network, with nothing to train. Choose "
            "precisions again within other limits: netsmith compress NETWORK --precision mixed"
        )
    if settings.way.space == "joint":
        raise FolderError(
            f"the points of the front of {folder} are archs with precisions, of which the best alone is "
            "trained. Design again within other limits"
        )
    trial = _asked_for(design, budget, digest)
    place = f"{PLACE}/{trial.arch.digest[:8]}"
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data if source is None else source, progress or Silent())
        if not (folder / place / "result.json").exists():
            _train(work, trial, budget, place)
        write_report(folder)
    return Design.load(folder / place)


class _Searched(NamedTuple):
    """What a finished search knows of one of its archs: ``start`` and ``teacher`` where it has them."""

    space: BuildableSpace | WidthSpace | TreeSpace
    width: float
    model: LatencyModel | None
    plan: Plan | None
    start: nn.Module | None = None
    teacher: nn.Module | None = None
    described: Mapping[str, Any] = {}


def _train(work: Work, trial: Trial, budget: Budget, place: str) -> None:
    """Train and measure one trial, and write it as an answer to ``place`` in the design's folder."""
    work.read_images()
    found, name = _searched(work, trial.arch), f"pick-{trial.arch.digest[:8]}"
    work.progress.stage(f"Training {trial.arch.digest[:8]}")
    what = found.plan or found.start
    assert what is not None
    network = finish(
        work, name, "pick", found.plan, training_recipe(work, what),
        arch=trial.arch, start=found.start, teacher=found.teacher,
    )  # fmt: skip
    network = replace(network, described=found.described)
    work.progress.stage("Measuring it")
    verified = work.once("verified", partial(verify, work, network, budget), name=name)
    latency = Latency.from_dict(verified["latency"])
    figures = report_figures(work, network, latency, predicted(found.model, found.plan))
    answer = answer_of(work, found.space, found.width, figures, latency.wide, budget)
    (work.folder.path / place).mkdir(parents=True, exist_ok=True)
    write_answer(work, found.space, found.model, network, answer, place)


def _searched(work: Work, arch: Arch) -> _Searched:
    """Return the design's space, its width, what predicts latencies, and what to start from."""
    if work.settings.way.judge == "training":
        width = work.once("width", dict)["width"]
        space = work.buildable(width)
        return _Searched(space, width, None, space.plan(arch))
    if work.settings.way.judge == "inherited":
        pruning = Pruning(work, base_of(work))
        plan, left = pruning.plan(arch), pruning.start(arch)
        return _Searched(
            pruning.space, 1.0, None, plan, left, pruning.teacher, {"layers": pruning.layers(arch)}
        )
    if work.settings.way.judge == "tuning":
        growth = Growth(work, begun_with(work))
        return _Searched(growth.space, 1.0, None, None, growth.begun(arch), None, growth.described(arch))
    quest = quest_of(work)
    start = run_search([quest]).extract(arch) if work.settings.start == "supernet" else None
    return _Searched(quest.space, quest.reach.width, quest.model, quest.space.plan(arch), start)


def _asked_for(design: Design, budget: Budget, digest: str) -> Trial:
    """Return the trial of the front that was asked for."""
    front = [
        Trial(Arch.from_dict(point["arch"]), point["figures"], point.get("reason", ""))
        for point in design.front
    ]
    if digest:
        found = [trial for trial in front if trial.arch.digest.startswith(digest)]
        if len(found) != 1:
            known = ", ".join(trial.arch.digest[:8] for trial in front)
            raise BudgetError(
                f"'{digest}' names {len(found)} archs of the front of {design.folder}; it has {known}"
            )
        return found[0]
    kept = [trial for trial in front if not budget.broken(trial.figures)]
    if not kept:
        least = {
            name: min((t.figures[name] for t in front if name in t.figures), default=None)
            for name in budget.limits()
        }
        raise BudgetError(
            f"no trial of the front of {design.folder} keeps {budget.limits()}; the least it has are {least}"
        )
    return min(kept, key=lambda trial: (trial.figures["error"], trial.figures["latency_ms"]))


def _settings_of(folder: Path) -> Settings:
    asked = merge(read_toml(folder / "design.toml"), {})
    if len(asked) != 1:
        raise FolderError(
            f"{folder} holds a design for several devices; name the folder of one of them inside it"
        )
    return asked[0]
