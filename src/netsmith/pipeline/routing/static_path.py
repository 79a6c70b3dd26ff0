"""One path of a routed supernet for all images: what a policy must beat to be worth choosing by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

from netsmith.arch import Arch
from netsmith.latency.model import LatencyModel
from netsmith.nn.network import Network
from netsmith.nn.runtime import channels_last
from netsmith.pipeline.finish import Finished, finish
from netsmith.pipeline.searching.reach import shallow
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.routed import RoutedSupernet
from netsmith.train import Recipe, evaluate, recalibrate

CALIBRATION_BATCHES = 8
SCORED = {"quick": 12, "standard": 32, "thorough": 96}
Cost = Callable[[Arch], float]
"""The predicted latency of a path without the choice of it, in milliseconds."""


def static_network(
    work: Work, model: LatencyModel, supernet: RoutedSupernet, limit_ms: float, recipe: Recipe
) -> Finished:
    """Train the best path, by validation, of some that take ``limit_ms`` or a little less on their own.

    They are judged and begun with the weights of ``supernet``, as the design's own network was.
    """
    work.progress.stage("Baseline static")
    space, rng = supernet.space, Random(work.settings.seed)
    cost = partial(_predicted, model, space)
    archs = [near(space, cost, limit_ms, rng) for _ in range(SCORED[work.settings.budget])]
    best, _ = best_path(work, supernet, archs)
    plan = space.plan(best)
    return finish(work, "static", "static", plan, recipe, arch=best, start=cut_out(work, supernet, best))


def near(space: RoutedSpace, cost: Cost, limit_ms: float, rng: Random) -> Arch:
    """Draw a path of at most ``limit_ms``: operations come on one after another, as far as there is room.

    Where even the shallowest path takes more, it is that.
    """
    arch = shallow(space)
    places = [(edge, j) for edge, row in enumerate(space.edges) for j in range(len(row))]
    rng.shuffle(places)
    for edge, j in places:
        choices = list(arch.choices)
        choices[edge] |= 1 << j
        if cost(more := space.arch(tuple(choices))) <= limit_ms:
            arch = more
    return arch


def best_path(work: Work, supernet: RoutedSupernet, archs: Iterable[Arch]) -> tuple[Arch, float]:
    """Return the path of most validation images right with the weights of ``supernet``, and their share."""
    scored: Sequence[tuple[float, Arch]] = [
        (evaluate(cut_out(work, supernet, arch), work.scoring).accuracy, arch)
        for arch in dict.fromkeys(archs)
    ]
    accuracy, best = max(scored, key=lambda item: item[0])
    return best, accuracy


def cut_out(work: Work, supernet: RoutedSupernet, arch: Arch) -> Network:
    """Return the network of one path, its batch-norm statistics estimated anew."""
    network = channels_last(supernet.extract(arch))
    calibration = work.loader(work.splits.train, EVALUATION_BATCH, salt=3)
    recalibrate(network, calibration, CALIBRATION_BATCHES)
    assert isinstance(network, Network)
    return network


def _predicted(model: LatencyModel, space: RoutedSpace, arch: Arch) -> float:
    return model.predict(space.plan(arch))
