"""The pipeline: from images, a device and a budget to a trained network, measured on that device.

Every step first looks in the journal for what it would find out, so that a design which was killed goes
on where it was. Measured latencies are read from there too: what was decided by them stays decided.
"""

from __future__ import annotations

import math
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as write_safetensors

import netsmith
from netsmith import pareto
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.answer import Design
from netsmith.pipeline.baselines import baselines, mobilenet_widths
from netsmith.pipeline.finish import (
    Finished,
    broken_limits,
    finish,
    input_description,
    report_figures,
    training_recipe,
)
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import measure_exported
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.reach import Reach, fit_width
from netsmith.pipeline.seek import Chooser, binding_costs, run_search, trial_step
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.report import write_report
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train import fastest_threads
from netsmith.trial import Trial

ATTEMPTS = 3
FINAL_LIMIT_S = 40.0


def run(settings: Settings, out: Path, *, source: Any = None, progress: Progress | None = None) -> Design:
    """Do the whole job in the folder ``out``, or go on with it there, and return the answer.

    ``source`` is a PyTorch dataset to use in place of what ``settings.data`` names. Raises
    :class:`netsmith.errors.NetsmithError` where something must be mended; the folder then stays as it
    is, and the same call goes on.
    """
    keep_memory()
    with DesignFolder(out, settings) as folder:
        work = Work(folder, settings.data if source is None else source, progress or Silent())
        if folder.journal.last("result") is None:
            folder.journal.write("started", command=command_of(settings, out), versions=_versions())
            _design(work)
        write_report(out)
    return Design.load(out)


def _design(work: Work) -> None:
    """Everything from the reach of the space to the result."""
    work.progress.stage("Reading the images")
    splits = work.splits
    if splits.skipped:
        number = len(splits.skipped)
        were = "image was" if number == 1 else "images were"
        work.warn(f"{number} {were} skipped; the report lists them")
    reach = _fit(work)
    space = work.space_of(reach.width)
    _set_threads(work, space)
    model = _profile(work, space)
    constant, edges = model.costs(space)
    latency = (constant, [list(row) for row in edges])
    figure, costs, target = binding_costs(work, space, latency)
    work.once("aim", lambda: {"figure": figure, "target": target})
    limits = work.budget.limits()
    if limits and figure == "macs" and work.aims["macs"] < limits.get("macs", math.inf):
        work.warn(
            f"the budget allows larger networks than --budget {work.settings.budget} can train; the search "
            f"aims at {target / 1e6:.3g} M multiply-adds. A longer --budget, or --epochs, may use more of it"
        )
    work.progress.stage("Searching")
    search = run_search(work, space, costs, target)
    work.progress.stage("Choosing among the best paths")
    chooser = Chooser(work, search, figure, costs, latency, target)
    ranked = chooser.choose()
    networks, reasons = _train(work, chooser, space, ranked)
    best = networks[0]
    networks += list(baselines(work, chooser, training_recipe(work, best.plan)))
    work.progress.stage("Measuring everything")
    _conclude(work, space, model, reach, networks, reasons)


def _fit(work: Work) -> Reach:
    """Choose the space's width by the budget, and say what it reaches."""
    work.progress.stage("Finding what the device can reach")
    asked = work.settings
    record = work.once(
        "reach", lambda: fit_width(work.space_of, work.budget, work.aims, work.bench, asked.width).to_dict()
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


def _set_threads(work: Work, space: ChainSpace) -> None:
    """Train with the threads that were asked for, or that are fastest here; the same at every start."""

    def choose() -> dict[str, int]:
        most = torch.get_num_threads()
        return {"threads": work.settings.threads or fastest_threads(trial_step(work, space), most)}

    torch.set_num_threads(work.once("threads", choose)["threads"])


def _profile(work: Work, space: ChainSpace) -> LatencyModel:
    """Build the device's latency table for the space, or read it from the journal."""
    work.progress.stage("Profiling the device")
    known = work.journal.last("profile")
    if known is not None:
        return LatencyModel.from_dict(known["model"])
    started = time.perf_counter()
    shape, classes = work.splits.input_shape, work.splits.classes
    compared = [mobilenetv2(shape, classes, width) for width in mobilenet_widths(work)]
    extra = list(dict.fromkeys(block for plan in compared for block in plan.blocks))
    model = profile(space, work.bench, extra=extra, on_progress=work.progress.update)
    work.journal.write(
        "profile",
        blocks=len(space.blocks),
        seconds=time.perf_counter() - started,
        heldout=model.heldout.to_dict(),
        model=model.to_dict(),
    )
    work.progress.say(model.heldout.describe())
    return model


def _train(
    work: Work, chooser: Chooser, space: ChainSpace, ranked: list[Trial]
) -> tuple[list[Finished], list[str]]:
    """Train the best trial that keeps the budget after training too; say what was broken where none does."""
    reasons: list[str] = []
    if not ranked:
        reasons = ["no arch that was measured keeps the budget; this is the closest"]
        measured = [Trial.from_dict(r["trial"]) for r in work.journal.all("trial", stage="measure")]
        limits = work.budget.limits()
        ranked = sorted(
            measured or [chooser.score(chooser.open.cheapest())],
            key=lambda t: max((t.figures.get(n, 0) / limit for n, limit in limits.items()), default=0),
        )[:1]
    for attempt, trial in enumerate(ranked[:ATTEMPTS]):
        name = "design" if attempt == 0 else f"design-{attempt + 1}"
        work.progress.stage("Training the network" if attempt == 0 else "Training the next best")
        plan = space.plan(trial.arch)
        start = chooser.search.extract(trial.arch) if work.settings.start == "supernet" else None
        network = finish(
            work, name, "design", plan, training_recipe(work, plan), arch=trial.arch, start=start
        )
        record = work.once("verified", partial(_verify, work, network), name=name)
        if not record["broken"] or attempt == len(ranked[:ATTEMPTS]) - 1:
            return [network], [*reasons, *([record["broken"]] if record["broken"] else [])]
        work.warn(f"{name} as trained and measured has {record['broken']}; training the next best")
    raise AssertionError("unreachable: the last attempt always returns")


def _verify(work: Work, network: Finished) -> dict[str, Any]:
    """Measure the trained, exported network: this decides whether it may be handed over."""
    shape = work.splits.input_shape
    latency = measure_exported(work.bench, {network.name: network.model}, shape)[network.name]
    figures = {"latency_ms": latency.median_ms, "size_bytes": len(network.model)}
    return {"broken": broken_limits(work, figures), "latency": latency.to_dict()}


def _conclude(
    work: Work,
    space: ChainSpace,
    model: LatencyModel,
    reach: Reach,
    networks: list[Finished],
    reasons: list[str],
) -> None:
    """Measure all networks in one run, read the test part, and write the files of the answer."""
    splits, asked = work.splits, work.settings
    models = {network.name: network.model for network in networks}
    latencies = measure_exported(work.bench, models, splits.input_shape, limit_s=FINAL_LIMIT_S)
    design, *others = networks
    figures = report_figures(work, design, latencies[design.name], model.predict(design.plan))
    broken = broken_limits(work, figures)
    reasons = list(dict.fromkeys([*reasons, *([broken] if broken else [])]))
    if latencies[design.name].wide:
        work.warn(
            "the machine was restless: the latency's interval stayed wider than 1 % of it; "
            "measure again when it is quiet"
        )
    result = {
        "netsmith": netsmith.__version__,
        "exported": f"model{work.bench.device.suffix}",
        "space": space.id,
        "strategy": asked.strategy,
        "device": work.bench.device.name,
        "device_fingerprint": work.bench.device.fingerprint(),
        "seed": asked.seed,
        "width": reach.width,
        **figures,
        "latency_budget_ms": work.budget.latency_ms,
        "budget": work.budget.limits(),
        "budget_met": not reasons,
        "reasons": reasons,
        **_seconds(work),
        "train_seconds": design.train_seconds,
        "baselines": {
            network.name: report_figures(
                work, network, latencies[network.name], model.try_predict(network.plan)
            )
            for network in others
        },
        "front": _front(work),
        "label_names": list(splits.label_names),
        "test_images": len(splits.test),
        "command": work.journal.all("started")[0]["command"],
        "warnings": [record["text"] for record in work.journal.all("warning")],
    }
    _write_files(work, space, model, design, result)


def _write_files(
    work: Work, space: ChainSpace, model: LatencyModel, design: Finished, result: Mapping[str, Any]
) -> None:
    """Write the network, what describes it, and last the result, whose presence says that all is there."""
    splits, folder = work.splits, work.folder
    described = {
        "arch": None if design.arch is None else design.arch.to_dict(),
        "plan": design.plan.to_list(),
        "latency_ms": [model.block_ms(block) for block in design.plan.blocks],
        "edges": [[block.key for block in options] for options in space.edges],
        "input_shape": list(splits.input_shape),
        "mean": list(splits.mean),
        "std": list(splits.std),
        "label_names": list(splits.label_names),
    }
    labels = {"labels": list(splits.label_names), "input": input_description(splits.input_shape)}
    weights = {name: value.contiguous() for name, value in design.module.state_dict().items()}
    folder.write_json("arch.json", described)
    folder.write_json("labels.json", labels)
    folder.write_bytes("model.safetensors", write_safetensors(weights))
    folder.write_bytes(f"model{work.bench.device.suffix}", design.model)
    folder.write_json("result.json", result)
    work.journal.write("result", digest=design.arch.digest if design.arch else "")


def _front(work: Work) -> list[dict[str, Any]]:
    """The measured trials that nothing measured beats in both error and latency, fastest first."""
    records = work.journal.all("trial", stage="measure")
    trials = list({r["digest"]: Trial.from_dict(r["trial"]) for r in records}.values())
    trials = [t for t in trials if "error" in t.figures and "latency_ms" in t.figures]
    kept = pareto.front([(t.figures["error"], t.figures["latency_ms"]) for t in trials])
    return [
        {
            "arch": trial.arch.to_dict(),
            "digest": trial.arch.digest,
            "latency_ms": trial.figures["latency_ms"],
            "latency_ms_predicted": trial.figures["latency_ms_predicted"],
            "validation_accuracy": 1 - trial.figures["error"],
            "figures": dict(trial.figures),
            "reason": trial.reason,
        }
        for trial in sorted((trials[i] for i in kept), key=lambda t: t.figures["latency_ms"])
    ]


def _seconds(work: Work) -> dict[str, float]:
    """The seconds of each part, over all starts of the design."""
    journal = work.journal
    search = sum(r["seconds"] for r in journal.all("search_epoch"))
    search += sum(r["seconds"] for r in journal.all("trial", stage="derive"))
    profiled = journal.last("profile")
    starts = [i for i, record in enumerate(journal.events) if record["event"] == "started"]
    ends = [*(journal.events[i - 1]["time"] for i in starts[1:]), time.time()]
    total = sum(end - journal.events[i]["time"] for i, end in zip(starts, ends, strict=True))
    return {
        "search_seconds": search,
        "profile_seconds": profiled["seconds"] if profiled else 0.0,
        "total_seconds": total,
    }


def command_of(settings: Settings, out: Path) -> str:
    """Return the command that repeats a design."""
    parts = ["netsmith", "design", settings.data]
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "data" or value == field.default:
            continue
        if field.name == "stages":  # no option holds them: design.toml does
            return shlex.join(["netsmith", "design", "--config", str(out / "design.toml"), "--out", str(out)])
        option = f"--{field.name.replace('_', '-')}"
        parts += [option] if value is True else [option, str(value)]
    return shlex.join([*parts, "--out", str(out)])


def _versions() -> dict[str, str]:
    """The versions that figures may depend on."""
    packages = ("torch", "numpy", "numba", "onnx", "accelerate")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
