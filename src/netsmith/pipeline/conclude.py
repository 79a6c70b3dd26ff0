"""The end of a design: every network measured in one run, and the files of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save as write_safetensors

import netsmith
from netsmith import pareto
from netsmith.devices.measure import Latency
from netsmith.latency.model import LatencyModel
from netsmith.pipeline.finish import Finished, broken_limits, input_description, report_figures
from netsmith.pipeline.reach import Reach
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.spaces.chain import ChainSpace
from netsmith.trial import Trial

FINAL_LIMIT_S = 40.0
# Points of 1 that a file may lose against the network that it was written from before the user is told.
NOTABLE_LOSS = 0.01


def conclude(
    work: Work,
    space: ChainSpace,
    model: LatencyModel,
    reach: Reach,
    networks: list[Finished],
    reasons: list[str],
) -> None:
    """Measure all networks in one run, read the test part, and write the files of the answer.

    The design's latency is by the samples of this run and of those that verified it after its training.
    """
    splits, asked = work.splits, work.settings
    models = {network.name: network.model for network in networks}
    latencies = work.bench.time_files(models, limit_s=FINAL_LIMIT_S)
    design, *others = networks
    verified = work.journal.last("verified", name=design.name)
    if verified is not None:
        latencies[design.name] = latencies[design.name].pooled(Latency.from_dict(verified["latency"]))
    figures = report_figures(work, design, latencies[design.name], model.predict(design.plan))
    broken = broken_limits(work, figures)
    reasons = list(dict.fromkeys([*reasons, *([broken] if broken else [])]))
    lost = figures["accuracy"] - figures["accuracy_exported"]
    if lost > NOTABLE_LOSS:
        work.warn(
            f"the exported file, in {work.bench.device.precision}, classifies {100 * lost:.1f} points fewer "
            "test images right than the trained network did"
        )
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
        "latency_is": "looked up" if isinstance(work.bench.device, TableDevice) else "measured",
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
        "latency_ms": list(model.shares(design.plan)),
        "edges": [[block.key for block in options] for options in space.edges],
        "input_shape": list(splits.input_shape),
        "mean": list(splits.mean),
        "std": list(splits.std),
        "label_names": list(splits.label_names),
    }
    labels = {"labels": list(splits.label_names), "input": input_description(work)}
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
