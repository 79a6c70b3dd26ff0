"""The end of a design: every network measured in one run, and the files of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save as write_safetensors

import netsmith
from netsmith import pareto
from netsmith.budget import Budget
from netsmith.devices.measure import Latency
from netsmith.latency.model import LatencyModel
from netsmith.pipeline.finish import Finished, broken_limits, input_description, report_figures
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.spaces.space import BuildableSpace, NamedSpace
from netsmith.trial import Trial

FINAL_LIMIT_S = 40.0
# Points of 1 that a file may lose against the network that it was written from before the user is told.
NOTABLE_LOSS = 0.01
SECONDS = ("search_seconds", "profile_seconds", "total_seconds")


def conclude(
    work: Work,
    space: NamedSpace,
    width: float,
    model: LatencyModel | None,
    networks: list[Finished],
    reasons: list[str],
) -> None:
    """Measure all networks in one run, read the test part, and write the files of the answer.

    The design's latency is by the samples of this run and of those that verified it after its training. One
    that seems over the limit is measured again, and all count, as then: what disturbed the machine may pass.
    ``model`` predicts latencies, where the design had use for one.
    """
    models = {network.name: network.model for network in networks}
    latencies = work.bench.time_files(models, limit_s=FINAL_LIMIT_S)
    design, *others = networks
    verified = work.journal.last("verified", name=design.name)
    if verified is not None:
        latencies[design.name] = latencies[design.name].pooled(Latency.from_dict(verified["latency"]))
    if broken_limits(work.budget, {"latency_ms": latencies[design.name].median_ms}):
        again = work.bench.time_files({design.name: design.model}, limit_s=FINAL_LIMIT_S)
        latencies[design.name] = latencies[design.name].pooled(again[design.name])
    latency = latencies[design.name]
    figures = report_figures(work, design, latency, predicted(model, design.plan))
    end(
        work,
        space,
        model,
        design,
        answer_of(work, space, width, figures, latency.wide, work.budget, reasons),
        baselines={
            network.name: report_figures(
                work, network, latencies[network.name], predicted(model, network.plan)
            )
            for network in others
        },
        front=_front(work, space),
    )


def end(
    work: Work,
    space: NamedSpace,
    model: LatencyModel | None,
    design: Finished,
    answer: Mapping[str, Any],
    *,
    baselines: Mapping[str, Any],
    front: Sequence[Mapping[str, Any]],
) -> None:
    """Write the files of an answer with what stands beside it, and the end of the design."""
    result = {
        **answer,
        **_seconds(work),
        "baselines": baselines,
        "front": front,
        "command": work.journal.all("started")[0]["command"],
        "warnings": [record["text"] for record in work.journal.all("warning")],
    }
    write_answer(work, space, model, design, result)
    work.journal.write("result", digest=design.arch.digest if design.arch else "")


def answer_of(
    work: Work,
    space: NamedSpace,
    width: float,
    figures: Mapping[str, Any],
    wide: bool,
    budget: Budget,
    reasons: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what ``result.json`` says of a network that is handed over; warn of what its user should know.

    ``figures`` are its own, ``wide`` says whether the interval of its latency is; ``reasons`` say why it does
    not keep ``budget``, as far as that is known before its own figures.
    """
    broken = broken_limits(budget, figures)
    reasons = list(dict.fromkeys([*reasons, *([broken] if broken else [])]))
    lost = figures["accuracy"] - figures["accuracy_exported"]
    if lost > NOTABLE_LOSS:
        work.warn(
            f"the exported file, in {work.bench.device.precision}, classifies {100 * lost:.1f} points fewer "
            "test images right than the trained network did"
        )
    if wide:
        work.warn(
            "the machine was restless: the latency's interval stayed wider than 1 % of it; "
            "measure again when it is quiet"
        )
    asked, device = work.settings, work.bench.device
    return {
        "netsmith": netsmith.__version__,
        "exported": f"model{device.suffix}",
        "space": space.id,
        "strategy": asked.way.strategy,
        "judge": asked.way.judge,
        "objectives": list(asked.figures),
        "device": device.name,
        "device_fingerprint": device.fingerprint(),
        "latency_is": "looked up" if isinstance(device, TableDevice) else "measured",
        "seed": asked.seed,
        "width": width,
        **figures,
        "latency_budget_ms": budget.latency_ms,
        "budget": budget.limits(),
        "budget_met": not reasons,
        "reasons": reasons,
        "label_names": list(work.splits.label_names),
        "test_images": len(work.splits.test),
    }


def write_answer(
    work: Work,
    space: NamedSpace,
    model: LatencyModel | None,
    design: Finished,
    result: Mapping[str, Any],
    place: str = ".",
) -> None:
    """Write the network, what describes it, and last the result, whose presence says that all is there.

    ``place`` is a folder inside that of the design.
    """
    splits, folder, plan = work.splits, work.folder, design.plan
    described = {
        "arch": None if design.arch is None else design.arch.to_dict(),
        "plan": [] if plan is None else plan.to_list(),
        "latency_ms": [] if model is None or plan is None else list(model.shares(plan)),
        "edges": [[block.key for block in options] for options in getattr(space, "edges", ())],
        "input_shape": list(splits.input_shape),
        "mean": list(splits.mean),
        "std": list(splits.std),
        "label_names": list(splits.label_names),
        **design.described,
    }
    labels = {"labels": list(splits.label_names), "input": input_description(work, work.bench.device)}
    weights = {name: value.contiguous() for name, value in design.module.state_dict().items()}
    folder.write_json(f"{place}/arch.json", described)
    folder.write_json(f"{place}/labels.json", labels)
    folder.write_bytes(f"{place}/model.safetensors", write_safetensors(weights))
    folder.write_bytes(f"{place}/model{work.bench.device.suffix}", design.model)
    folder.write_json(f"{place}/result.json", result)


def predicted(model: LatencyModel | None, plan: Plan | None) -> float | None:
    """Return the latency that ``model`` predicts of a plan, as far as there are both and it can."""
    return None if model is None or plan is None else model.try_predict(plan)


def _front(work: Work, space: NamedSpace) -> list[dict[str, Any]]:
    """The measured trials that nothing measured beats in every objective and latency, fastest first."""
    records = work.journal.all("trial", stage="measure")
    trials = list({r["digest"]: Trial.from_dict(r["trial"]) for r in records}.values())
    names = dict.fromkeys((*work.settings.figures, "latency_ms"))
    trials = [t for t in trials if all(name in t.figures for name in names)]
    kept = pareto.front([[t.figures[name] for name in names] for t in trials])
    return [
        {
            "arch": trial.arch.to_dict(),
            "digest": trial.arch.digest,
            "latency_ms": trial.figures["latency_ms"],
            "latency_ms_predicted": trial.figures.get("latency_ms_predicted"),
            "validation_accuracy": 1 - trial.figures["error"],
            "figures": dict(trial.figures),
            "reason": trial.reason,
            "plan": space.plan(trial.arch).to_list() if isinstance(space, BuildableSpace) else [],
        }
        for trial in sorted((trials[i] for i in kept), key=lambda t: t.figures["latency_ms"])
    ]


def _seconds(work: Work) -> dict[str, float]:
    """The seconds of each part, over all starts of the design.

    What was designed before it was compressed has kept its own.
    """
    journal = work.journal
    first = journal.last("designed") or dict.fromkeys(SECONDS, 0.0)
    search = sum(r["seconds"] for r in (*journal.all("search_epoch"), *journal.all("instance_epoch")))
    search += sum(r["seconds"] for r in journal.all("trial", stage="derive"))
    profiled = journal.last("profile")
    starts = [i for i, record in enumerate(journal.events) if record["event"] == "started"]
    designed = [i for i, record in enumerate(journal.events) if record["event"] == "designed"]
    starts = [*designed, *(i for i in starts if i > max(designed, default=-1))]
    ends = [*(journal.events[i - 1]["time"] for i in starts[1:]), time.time()]
    total = sum(end - journal.events[i]["time"] for i, end in zip(starts, ends, strict=True))
    own = (search, profiled["seconds"] if profiled else 0.0, total)
    return {name: first[name] + seconds for name, seconds in zip(SECONDS, own, strict=True)}
