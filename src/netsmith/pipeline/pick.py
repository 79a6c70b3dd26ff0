"""Another point of a finished design's front: trained as the design was, exported, measured and proved."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.devices.measure import Latency
from netsmith.errors import BudgetError, FolderError
from netsmith.latency.model import LatencyModel
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compressed import base_of
from netsmith.pipeline.conclude import answer_of, write_answer
from netsmith.pipeline.deliver import verify
from netsmith.pipeline.design import quest_of
from netsmith.pipeline.finish import finish, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.pruning import Pruning
from netsmith.pipeline.seek import run_search
from netsmith.pipeline.settings import Settings, merge, read_toml
from netsmith.pipeline.work import Work
from netsmith.report import write_report
from netsmith.spaces.space import BuildableSpace
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
    design = Design.load(folder)
    trial = _asked_for(design, budget, digest)
    place = f"{PLACE}/{trial.arch.digest[:8]}"
    settings = _settings_of(folder)
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data if source is None else source, progress or Silent())
        if not (folder / place / "result.json").exists():
            _train(work, trial, budget, place)
        write_report(folder)
    return Design.load(folder / place)


def _train(work: Work, trial: Trial, budget: Budget, place: str) -> None:
    """Train and measure one trial, and write it as an answer to ``place`` in the design's folder."""
    work.read_images()
    space, width, model, start, teacher = _searched(work, trial.arch)
    name, plan = f"pick-{trial.arch.digest[:8]}", space.plan(trial.arch)
    work.progress.stage(f"Training {trial.arch.digest[:8]}")
    recipe = training_recipe(work, plan)
    network = finish(work, name, "pick", plan, recipe, arch=trial.arch, start=start, teacher=teacher)
    work.progress.stage("Measuring it")
    verified = work.once("verified", partial(verify, work, network, budget), name=name)
    latency = Latency.from_dict(verified["latency"])
    answer = answer_of(work, space, width, network, latency, model, budget)
    (work.folder.path / place).mkdir(parents=True, exist_ok=True)
    write_answer(work, space, model, network, answer, place)


def _searched(
    work: Work, arch: Arch
) -> tuple[BuildableSpace, float, LatencyModel | None, Network | None, Network | None]:
    """Return the design's space, its width, what predicts latencies, what to start from, and the teacher."""
    if work.settings.way.judge == "training":
        width = work.once("width", dict)["width"]
        return work.buildable(width), width, None, None, None
    if work.settings.way.judge == "inherited":
        pruning = Pruning(work, base_of(work))
        return pruning.space, 1.0, None, pruning.start(arch), pruning.teacher
    quest = quest_of(work)
    start = run_search([quest]).extract(arch) if work.settings.start == "supernet" else None
    return quest.space, quest.reach.width, quest.model, start, None


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
