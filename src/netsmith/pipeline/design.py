"""The pipeline: from images, a device and a budget to a trained network, measured on that device.

Every step first looks in the journal for what it would find out, so that a design which was killed goes
on where it was. Measured latencies are read from there too: what was decided by them stays decided.
"""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from netsmith.compress.dependencies import check_tool
from netsmith.errors import BudgetError
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline import parts
from netsmith.pipeline.answer import Design
from netsmith.pipeline.baselines import baselines
from netsmith.pipeline.compression.compressed import OF_BASE, compressed_design
from netsmith.pipeline.compression.mixed import mixed_design
from netsmith.pipeline.conclude import SECONDS, conclude
from netsmith.pipeline.deliver import train_best
from netsmith.pipeline.finish import training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.growing.grown import grown_design
from netsmith.pipeline.profiled import profiled
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.routing.instance import instance_design
from netsmith.pipeline.searching.choose import Chooser
from netsmith.pipeline.searching.joint import check_device, joint_design
from netsmith.pipeline.searching.reach import Reach, fit_width, shallow
from netsmith.pipeline.searching.seek import Quest, binding_costs, run_search
from netsmith.pipeline.searching.trained import trained_design
from netsmith.pipeline.settings import Settings, joined
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.way import GROWN, STARTS
from netsmith.pipeline.work import Work
from netsmith.report import write_report
from netsmith.supernet.search import ProxylessSearch


def run(
    settings: Settings,
    out: Path,
    *,
    source: Any = None,
    module: nn.Module | None = None,
    progress: Progress | None = None,
) -> Design:
    """Do the whole job in the folder ``out``, or go on with it there, and return the answer.

    ``source`` is a PyTorch dataset to use in place of what ``settings.data`` names; ``module`` is the network
    of the user's own that ``settings.base`` names, which nothing else makes. Raises
    :class:`netsmith.errors.NetsmithError` where something must be mended; the folder then stays as it
    is, and the same call goes on.
    """
    keep_memory()
    with DesignFolder(out, settings) as folder:
        work = Work(folder, settings.data if source is None else source, progress or Silent(), module)
        if folder.journal.last("result") is None:
            begin(work, [settings], out)
            _design(work)
        write_report(out)
    return Design.load(out, module)


def begin(work: Work, asked: Sequence[Settings], out: Path) -> None:
    """Note the start of a design that is one of ``asked``, and the command that does them all in ``out``."""
    work.check_storage()
    work.journal.write("started", command=command_of(asked, out), versions=_versions())


def _design(work: Work) -> None:
    """Everything from the images to the result."""
    if work.folder.settings.compress:
        _design_before(work)
        _compress(work)
        return
    others = {
        "training": trained_design,
        "inherited": compressed_design,
        "reward": instance_design,
        "file": mixed_design,
        "tuning": grown_design,
    }
    if work.settings.way.judge in others:
        others[work.settings.way.judge](work)
        return
    if work.settings.way.judge == "transfer":
        check_device(work)
        joint_design(quest_of(work))
        return
    quest = quest_of(work)
    work.progress.stage("Searching")
    answer(quest, run_search([quest]))


def _design_before(work: Work) -> None:
    """Design the network before compression, in a folder of its own inside that of the design."""
    asked = work.folder.settings
    looser, settings = parts.looser_of(asked), parts.before(asked)
    check_tool()
    work.once("before", lambda: {"looser": looser, "limits": settings.limits().limits()})
    place = work.folder.path / parts.PLACE
    try:
        found = run(settings, place, source=work.source, progress=work.progress)
    except BudgetError as error:
        raise BudgetError(f"of the network before, at {looser:g} times the limits: {error}") from error
    work.once("designed", lambda: {name: found.result[name] for name in SECONDS})
    for text in found.result["warnings"]:
        work.once("warning", dict, text=text)  # it was told when it was found


def _compress(work: Work) -> None:
    """Compress the network before, which has few channels to lose where the limits are tight."""
    try:
        compressed_design(work)
    except BudgetError as error:
        raise BudgetError(
            f"the network before cannot lose as much as the limits ask for: {error}. Design again, with "
            f"another --out, with a --looser under {parts.looser_of(work.folder.settings):g}, or without "
            "--compress"
        ) from error


def quest_of(work: Work) -> Quest:
    """Return what to search for: everything up to the search, read from the journal where it is known."""
    work.read_images()
    if isinstance(work.bench.device, TableDevice):
        work.warn(
            f"nothing is measured on this device: every latency is what {work.bench.device.name} says. "
            "Measure the exported file there before relying on it"
        )
    reach = _fit(work)
    space = work.space_of(reach.width)
    work.set_threads(space.plan(shallow(space)))
    model = profiled(work, space)
    latency = model.costs(space)
    figure, costs, target = binding_costs(work, space, latency)
    work.once("aim", lambda: {"figure": figure, "target": target})
    limits = work.budget.limits()
    if limits and figure == "macs" and work.aims["macs"] < limits.get("macs", math.inf):
        work.warn(
            f"the budget allows larger networks than --budget {work.settings.budget} can train; the search "
            f"aims at {target / 1e6:.3g} M multiply-adds. A longer --budget, or --epochs, may use more of it"
        )
    return Quest(work, reach, space, model, latency, figure, costs, target)


def answer(quest: Quest, search: ProxylessSearch, number: int = 0) -> None:
    """Choose, train, compare and measure what ``search`` found for its aim ``number``; write the result."""
    work = quest.work
    work.progress.stage("Choosing among the best paths")
    chooser = Chooser(quest, search, number)
    ranked = chooser.choose()
    best, reasons = train_best(work, ranked, chooser.measured(), quest.space.plan, chooser.start)
    networks = [best, *baselines(work, chooser, training_recipe(work, best.plan or best.module))]
    work.progress.stage("Measuring everything")
    conclude(work, quest.space, quest.reach.width, quest.model, networks, reasons)


def _fit(work: Work) -> Reach:
    """Choose the space's width by the budget, and say what it reaches."""
    work.progress.stage("Finding what the device can reach")
    record = work.once(
        "reach", lambda: fit_width(work.space_of, work.budget, work.aims, work.bench, work.widths).to_dict()
    )
    reach = Reach(**{field.name: record[field.name] for field in fields(Reach)})
    space = work.space_of(reach.width)
    work.once(
        "space",
        lambda: {
            "id": space.id,
            "width": reach.width,
            "count": str(space.count()),
            "edges": len(space.edges),
        },
    )
    work.progress.say(reach.describe(work.budget.limits()))
    return reach


def command_of(asked: Sequence[Settings], out: Path) -> str:
    """Return the command that repeats a design, or the designs for several devices."""
    values = joined(asked)
    words = ["netsmith", "design", values["data"]]
    if asked[0].base is not None and asked[0].way.space != GROWN[0]:
        words = ["netsmith", "compress", values.pop("base"), *([values["data"]] if asked[0].own else [])]
        values = values if asked[0].own else {k: v for k, v in values.items() if k not in OF_BASE}
    for field in fields(Settings):
        value = values.get(field.name, field.default)
        if field.name == "data" or value == field.default:
            continue
        if field.name == "stages":  # no option holds them: design.toml does
            return shlex.join(["netsmith", "design", "--config", str(out / "design.toml"), "--out", str(out)])
        option = _option(field.name, asked[0])
        if isinstance(value, tuple):
            value = ",".join(map(repr, value))
        for each in value if isinstance(value, list) else [value]:
            words += [option] if each is True else [option, str(each)]
    return shlex.join([*words, "--out", str(out)])


def _option(name: str, asked: Settings) -> str:
    """The option of a setting; a network's weights are called otherwise where a supernet may have some."""
    if asked.way.space == GROWN[0]:
        name = "from" if name == "base" and asked.base not in STARTS else name
    else:
        name = name.removeprefix("base_")
    return f"--{name.replace('_', '-')}"


def _versions() -> dict[str, str]:
    """The versions that figures may depend on."""
    packages = ("torch", "numpy", "numba", "onnx", "accelerate")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
