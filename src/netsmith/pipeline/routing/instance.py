"""Designs in which every image takes a path of its own (InstaNAS): a limit of latency that holds on average.

The search's bounds come down; a few times it is halted, and what it is then is fine-tuned for a short while,
written as a file whose common paths are branches, and measured. Of those within the limit the most accurate
is fine-tuned to the end and handed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.devices.routing import routing
from netsmith.errors import BudgetError
from netsmith.latency.model import LatencyModel
from netsmith.nn.count import count_plan
from netsmith.pipeline.baselines import mobilenets
from netsmith.pipeline.described import describe_routed
from netsmith.pipeline.finish import Finished, broken_limits, train_network, training_recipe
from netsmith.pipeline.profiled import profiled
from netsmith.pipeline.routing.descent import Bound, Descent, paths_of, settle, validation_accuracy
from netsmith.pipeline.routing.figures import conclude_routed
from netsmith.pipeline.routing.network import (
    Dispatch,
    controller_kind,
    measure_dispatch,
    most_common,
    predicted_ms,
    with_choice,
    write_file,
)
from netsmith.pipeline.routing.path_times import PathTimes, pooled, timed, to_time, untimed
from netsmith.pipeline.routing.static_path import static_network
from netsmith.pipeline.searching.reach import WIDTHS, Reach, fit_width, shallow
from netsmith.pipeline.searching.seek import MARGIN
from netsmith.pipeline.work import Work
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.routed_network import RoutedNetwork
from netsmith.train import Recipe

# What is kept of one search: mean latencies as shares of the limit.
FRONT = (1.25, 1.0, 0.85)
# What the shallow path of the chosen width takes of the limit with the choice of it: images share the rest.
SHALLOW_SHARE = 0.5
TRIES, ROUNDS = 3, 3
# Where images take less than this of a share, the search is led higher: the rest of the limit is of no use.
USED = 0.9
ERRORS = 2  # standard errors of the mean over validation images: what others take may differ by as much
# The cheapest path must take less than what is aimed at: between the two lies what is rewarded.
ROOM = 1.03


@dataclass(frozen=True)
class Routed:
    """A network that routes images, trained and written; ``common`` are the paths that are branches."""

    finished: Finished
    network: RoutedNetwork
    common: tuple[Arch, ...]


@dataclass(frozen=True)
class Search:
    """What a design of paths works with once its space is known; ``costs`` are of operations alone."""

    work: Work
    space: RoutedSpace
    width: float
    model: LatencyModel
    dispatch: Dispatch
    descent: Descent

    def expected_ms(self, bound: Bound) -> float:
        """Return the predicted mean latency of validation images at a bound; found once."""

        def found() -> dict[str, Any]:
            archs = paths_of(self.work, self.descent.at(bound), self.work.splits.validation)
            common = most_common(archs)
            total = sum(self.predicted(common, arch) for arch in archs)
            return {
                "aim_ms": bound.aim_ms,
                "upper_ms": bound.upper_ms,
                "epochs": bound.epochs,
                "latency_ms_predicted": total / len(archs),
                "paths": len(set(archs)),
            }

        return float(self.work.once("bound", found, number=bound.number)["latency_ms_predicted"])

    def predicted(self, common: Sequence[Arch], arch: Arch) -> float:
        """Return the predicted latency of an image on a path, where the paths ``common`` are branches."""
        return predicted_ms(self.model, self.dispatch, self.space, common, arch)

    def tuned(self, bound: Bound) -> Routed:
        """Fine-tune what the search was at a bound for a short while, and write it."""
        work = self.work
        work.progress.stage(f"Fine-tuning at {bound.aim_ms:.3g} ms")
        network, seconds = self.descent.tuned(bound)
        common = most_common(paths_of(work, network, work.splits.validation))
        return self._written(f"bound-{bound.number}", network, common, seconds)

    def trained(self, tuned: Routed, recipe: Recipe) -> Routed:
        """Fine-tune to the end, by the recipe of what stands beside it, and write that.

        The controller stays as it is, so that images keep their paths and what these take.
        """
        work, common = self.work, tuned.common
        work.progress.stage("Training the network")
        _, outcome = train_network(work, "design", None, recipe, start=tuned.network)
        settle(work, tuned.network)
        seconds = tuned.finished.train_seconds + outcome.seconds
        return self._written("design", tuned.network, common, seconds)

    def _written(self, name: str, network: RoutedNetwork, common: Sequence[Arch], seconds: float) -> Routed:
        """Write a network that has been trained for ``seconds``; the paths ``common`` are branches."""
        work, kind, plan = self.work, controller_kind(self.work), self.space.plan(common[0])
        finished = Finished(
            name=name,
            kind="design",
            plan=plan,
            arch=common[0],
            module=network,
            counts=count_plan(plan),
            model=write_file(work, network, common, name),
            validation_accuracy=validation_accuracy(work, network),
            train_seconds=seconds,
            described=describe_routed(self.space, kind, self.model.costs(self.space), self.dispatch, common),
        )
        return Routed(finished, network, tuple(common))

    def measure(self, routed: Routed, number: int) -> dict[str, Any]:
        """Return the figures of what was kept at a bound, measured on validation images; found once.

        What seems over the limit is measured again, and both count: training another costs far more.
        """
        work = self.work

        def found() -> dict[str, Any]:
            archs = paths_of(work, routed.network, work.splits.validation)
            times = self._time(routed, archs)
            if times.mean_ms > (work.budget.latency_ms or 0.0):
                times = pooled(times, self._time(routed, archs))
            figures = {
                "latency_ms": times.mean_ms,
                "latency_ms_predicted": times.predicted_ms,
                "latency_ms_p50": times.quantile_ms(0.5),
                "latency_ms_p99": times.quantile_ms(0.99),
                "size_bytes": float(len(routed.finished.model)),
            }
            if work.budget.peak_bytes is not None:
                used = work.bench.device.footprint(routed.finished.model)
                figures["peak_bytes"] = float(used.peak_bytes)
            return {
                "figures": figures,
                "latency_error_ms": times.error_ms,
                "validation_accuracy": routed.finished.validation_accuracy,
                "paths": len(times.paths),
                "reason": broken_limits(work.budget, figures),
            }

        return work.once("kept", found, number=number)

    def _time(self, routed: Routed, archs: Sequence[Arch]) -> PathTimes:
        """Time the paths of validation images, which are ``archs``."""
        validation = self.work.splits.validation
        predicted = {arch: self.predicted(routed.common, arch) for arch in set(archs)}
        paths = untimed(archs, predicted)
        subjects = {"it": (routed.finished.model, to_time(paths, archs, validation))}
        return timed(paths, self.work.bench.time_images(subjects)[0]["it"])


def instance_design(work: Work) -> None:
    """Everything from the images to the result."""
    routing(work.bench.device)
    work.read_images()
    search = prepared(work)
    work.progress.stage("Searching")
    bounds = halts(search)
    chosen, number, reasons = _choose(search, bounds)
    recipe = training_recipe(work, search.space.plan(chosen.common[0]))
    chosen = search.trained(chosen, recipe)
    networks = list(mobilenets(work, recipe))
    if work.settings.baselines == "full":
        start = search.descent.at(search.descent.bounds[number]).supernet
        limit = float(work.once("kept", dict, number=number)["figures"]["latency_ms"])
        networks.append(static_network(work, search.model, start, limit, recipe))
    work.progress.stage("Measuring everything")
    predict = partial(search.predicted, chosen.common)
    conclude_routed(
        work, search.space, search.width, search.model, search.dispatch, chosen.finished, chosen.network,
        predict, networks, reasons, _front(search),
    )  # fmt: skip


def prepared(work: Work) -> Search:
    """Measure what choosing takes, fit the width, and profile the space; read from the journal if known."""
    work.progress.stage("Finding what the device can reach")
    widths = WIDTHS if work.settings.width is None else (work.settings.width,)
    told = work.once("dispatch", lambda: measure_dispatch(work, work.routed_space(widths[0])).to_dict())
    dispatch = Dispatch(told["choosing_ms"], told["if_ms"])
    record = work.once(
        "reach",
        lambda: fit_width(
            work.routed_space, Budget(latency_ms=work.budget.latency_ms), work.aims, work.bench, widths,
            overhead_ms=dispatch.usual_ms(), share=SHALLOW_SHARE,
        ).to_dict(),
    )  # fmt: skip
    reach = Reach(**{field.name: record[field.name] for field in fields(Reach)})
    space = work.routed_space(reach.width)
    known = {"id": space.id, "width": reach.width, "count": str(space.count()), "edges": len(space.edges)}
    work.once("space", lambda: known)
    work.progress.say(reach.describe(work.budget.limits()))
    work.set_threads(space.plan(shallow(space)))
    model = profiled(work, space)
    descent = Descent(work, space, with_choice(model.costs(space), dispatch), len(FRONT))
    return Search(work, space, reach.width, model, dispatch, descent)


def halts(search: Search) -> list[Bound]:
    """Search down to each share of the limit, and for the limit itself on until it should be kept, and used.

    Where images should take more than a share or far less, what follows aims lower or higher by as much.
    """
    descent, limit = search.descent, float(search.work.budget.latency_ms or 0.0)
    least = ROOM * descent.lower_ms
    if MARGIN * limit < least:
        raise BudgetError(
            f"a mean latency of {limit:.4g} ms was asked for, and the cheapest path of {search.space.id} "
            f"with the choice of it should take {descent.lower_ms:.4g} ms; ask for at least {least:.3g}ms"
        )
    kept, lead = [], 1.0
    for share in FRONT:
        tried: list[tuple[float, Bound]] = []
        for _ in range(1 + (TRIES if share == 1.0 else 0)):
            aim = max(least, lead * MARGIN * share * limit)
            bound = descent.come_down(aim)
            expected = search.expected_ms(bound)
            tried.append((expected, bound))
            if USED * share * limit <= expected <= share * limit:
                break
            lead *= MARGIN * share * limit / expected  # all that follows is off alike
            if aim == least and expected > share * limit:
                break
        within = [each for each in tried if each[0] <= share * limit]
        kept.append(max(within, key=lambda each: each[0], default=tried[-1])[1])
    return kept


def _choose(search: Search, bounds: Sequence[Bound]) -> tuple[Routed, int, list[str]]:
    """Return the most accurate network on validation within the limit, its bound, and what is broken.

    Of those that validation images cannot tell apart it is the slowest: all were fine-tuned for a short
    while, in which small ones get further. Where none is surely within the limit, the search goes on tighter
    by as much as the closest missed; where that does not help either, it is the closest.
    """
    limit, least = float(search.work.budget.latency_ms or 0.0), ROOM * search.descent.lower_ms
    found: dict[int, dict[str, Any]] = {}
    routed: dict[int, Routed] = {}

    def keep(bound: Bound) -> None:
        routed[bound.number] = search.tuned(bound)
        found[bound.number] = search.measure(routed[bound.number], bound.number)

    for bound in bounds:
        keep(bound)
    for _ in range(ROUNDS):
        if any(_surely_within(record, limit) for record in found.values()):
            break
        closest = min(
            record["figures"]["latency_ms"] + record["latency_error_ms"] for record in found.values()
        )
        aim = max(least, search.descent.bounds[-1].aim_ms * min(0.97, MARGIN * limit / closest))
        keep(search.descent.come_down(aim))
    within = [number for number, record in found.items() if not record["reason"]]
    if within:
        best = most_accurate({n: found[n] for n in within}, limit, len(search.work.splits.validation))
        return routed[best], best, []
    best = min(found, key=lambda n: found[n]["figures"]["latency_ms"])
    return routed[best], best, ["no bound of the search keeps the budget; this is the closest"]


def most_accurate(found: Mapping[int, dict[str, Any]], limit: float, images: int) -> int:
    """Return the number of the slowest record no more than a standard error behind the most accurate.

    The error is that of a share of ``images``. Those that are not surely within the limit do not count; where
    there is no other, it is the one that is closest to it.
    """
    sure = {n: each for n, each in found.items() if _surely_within(each, limit)}
    if not sure:
        return min(found, key=lambda n: _surely_ms(found[n]))
    top = max(each["validation_accuracy"] for each in sure.values())
    error = math.sqrt(top * (1 - top) / images)
    like = {n: each for n, each in sure.items() if each["validation_accuracy"] >= top - error}
    return max(like, key=lambda n: (like[n]["figures"]["latency_ms"], -n))


def _surely_within(record: Mapping[str, Any], limit: float) -> bool:
    """Whether what was kept is within all limits, and within that of latency another time as well."""
    return not record["reason"] and _surely_ms(record) <= limit


def _surely_ms(record: Mapping[str, Any]) -> float:
    """Return what other images than those of validation, timed again, hardly exceed on average."""
    latency = float(record["figures"]["latency_ms"])
    return max(latency / MARGIN, latency + ERRORS * float(record["latency_error_ms"]))


def _front(search: Search) -> list[dict[str, Any]]:
    """The networks that were kept, fastest first, which none beats in both accuracy and latency."""
    records = sorted(search.work.journal.all("kept"), key=lambda r: r["figures"]["latency_ms"])
    front: list[dict[str, Any]] = []
    for record in records:
        if all(record["validation_accuracy"] > item["validation_accuracy"] for item in front):
            front.append(
                {
                    "digest": f"bound-{record['number']}",
                    "latency_ms": record["figures"]["latency_ms"],
                    "latency_ms_predicted": record["figures"]["latency_ms_predicted"],
                    "validation_accuracy": record["validation_accuracy"],
                    "figures": {**record["figures"], "error": 1 - record["validation_accuracy"]},
                    "paths": record["paths"],
                    "reason": record["reason"],
                }
            )
    return front
