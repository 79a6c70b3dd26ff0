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
    reasons = [] if ranked else ["no arch that was measured keeps the budget; this is the closest"]
    ranked = ranked or [min(measured, key=lambda trial: work.budget.used(trial.figures))]

    def trained(trial: Trial, name: str) -> Finished:
        work.progress.stage("Training the network" if name == "design" else "Training the next best")
        plan, start = plan_of(trial.arch), start_of(trial.arch)
        what = start if plan is None else plan
        assert what is not None  # one without a plan starts from what is left of its base
        recipe = training_recipe(work, what)
        return finish(work, name, "design", plan, recipe, arch=trial.arch, start=start, teacher=teacher)

    best, broken = first_within(work, [partial(trained, trial) for trial in ranked])
    return best, [*reasons, *broken]


def first_within(work: Work, makers: Sequence[Callable[[str], Finished]]) -> tuple[Finished, list[str]]:
    """Make one network after another, by its name, and return the first that keeps the budget as measured.

    After ``ATTEMPTS`` it is the last, with what it breaks.
    """
    makers = makers[:ATTEMPTS]
    for attempt, make in enumerate(makers, 1):
        network = make("design" if attempt == 1 else f"design-{attempt}")
        record = work.once("verified", partial(verify, work, network, work.budget), name=network.name)
        if not record["broken"] or attempt == len(makers):
            return network, [record["broken"]] if record["broken"] else []
        work.warn(f"{network.name} as finished and measured has {record['broken']}; taking the next best")
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
