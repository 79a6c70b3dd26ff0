"""From ranked trials to a trained network that keeps the budget as measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.devices.measure import Latency
from netsmith.pipeline.finish import Finished, broken_limits, finish, training_recipe
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.trial import Trial

ATTEMPTS = 3


def train_best(
    work: Work,
    ranked: Sequence[Trial],
    measured: Sequence[Trial],
    plan_of: Callable[[Arch], Plan | None],
    start_of: Callable[[Arch], nn.Module | None],
    teacher: nn.Module | None = None,
) -> tuple[Finished, list[str]]:
    """Train the best of ``ranked`` that keeps the budget after training too; say what is broken if none does.

    Where nothing is ranked, the one of ``measured`` is trained that is over the budget by the least.
    ``start_of`` gives the weights to start from, or None for none; ``teacher`` is what else it learns from.
    """
    reasons: list[str] = []
    if not ranked:
        reasons = ["no arch that was measured keeps the budget; this is the closest"]
        limits = work.budget.limits()
        ranked = sorted(
            measured,
            key=lambda t: max((t.figures.get(n, 0) / limit for n, limit in limits.items()), default=0),
        )[:1]
    for attempt, trial in enumerate(ranked[:ATTEMPTS]):
        name = "design" if attempt == 0 else f"design-{attempt + 1}"
        work.progress.stage("Training the network" if attempt == 0 else "Training the next best")
        plan, start = plan_of(trial.arch), start_of(trial.arch)
        what = start if plan is None else plan
        assert what is not None  # one without a plan starts from what is left of its base
        recipe = training_recipe(work, what)
        network = finish(work, name, "design", plan, recipe, arch=trial.arch, start=start, teacher=teacher)
        record = work.once("verified", partial(verify, work, network, work.budget), name=name)
        if not record["broken"] or attempt == len(ranked[:ATTEMPTS]) - 1:
            return network, [*reasons, *([record["broken"]] if record["broken"] else [])]
        work.warn(f"{name} as trained and measured has {record['broken']}; training the next best")
    raise AssertionError("unreachable: the last attempt always returns")


def verify(work: Work, network: Finished, budget: Budget) -> dict[str, Any]:
    """Measure the trained, exported network: this decides whether it may be handed over.

    One that seems over the limit is measured again, and both count: training another costs far more.
    """

    def measured() -> Latency:
        return work.bench.time_files({network.name: network.model})[network.name]

    def broken(latency: Latency) -> str:
        figures = {"latency_ms": latency.median_ms, "size_bytes": len(network.model)}
        return broken_limits(budget, figures)

    latency = measured()
    if broken(latency):
        latency = latency.pooled(measured())
    return {"broken": broken(latency), "latency": latency.to_dict()}
