"""Search by surrogates, for an optimum or a whole front, in the manner of NSGANetV2 (Lu et al. 2020).

An archive of trials, a surrogate of every objective fitted on all of it, an evolution towards the front of
what the surrogates predict, and of its archs a few that fill the front. The surrogates here are Gaussian
processes, which tell their own uncertainty; the few are those that add most hyper-volume, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

import numpy as np

from netsmith.arch import Arch
from netsmith.pareto import hypervolume, ranks, worths
from netsmith.search.gaussian import GaussianFigure
from netsmith.search.searcher import Allowed, Draw, fresh, values
from netsmith.spaces.space import Space
from netsmith.trial import Trial

FIRST = 20
BATCH = 4  # or, when there are many trials, so large a part of them:
SHARE = 0.025
POPULATION = 50
CHILDREN = 100
GENERATIONS = 5
CROSSOVER = 0.5
OPTIMISM = 0.5  # a figure is expected so many standard deviations better than its mean

Point = tuple[float, ...]
Known = Callable[[Arch], Mapping[str, float]]
"""Figures of an arch that cost nothing, such as counts or a predicted latency."""


class SurrogateSearch:
    """Asks for ``FIRST`` draws, then batch by batch for what is expected to widen the front most.

    Of one objective the front is the best trial. ``objectives`` name the figures to minimise: those that
    ``known`` gives of an arch are taken from it, the others predicted, half a standard deviation better than
    expected. A trial that failed is the worst. No arch is asked for twice while there are others.
    """

    def __init__(
        self,
        space: Space,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        objectives: Sequence[str] = ("error",),
        known: Known = lambda arch: {},
    ) -> None:
        self._space, self._draw, self._allowed = space, draw, allowed
        self._objectives, self._known = tuple(objectives), known
        self._rng = Random(seed)
        self._models = {name: GaussianFigure(seed) for name in self._objectives}
        self._points: dict[Arch, Point] = {}
        self._asked: set[Arch] = set()
        self._batch: list[Arch] = []

    def ask(self) -> Arch:
        """Return a draw at first, then the next of a batch; a new batch is chosen by all that is known."""
        if not self._batch and len(self._points) >= FIRST:
            self._batch = self._chosen()
        arch = self._batch.pop(0) if self._batch else fresh(self._draw, self._asked, self._rng)
        self._asked.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Learn from the trial."""
        self._points[trial.arch] = values(trial, self._objectives)

    def _chosen(self) -> list[Arch]:
        """Return the batch: of the expected front's archs those that add most to the front of the trials."""
        finite = {arch: point for arch, point in self._points.items() if math.inf not in point}
        if not finite:
            return []
        ranked = zip(finite.items(), ranks(list(finite.values())), strict=True)
        best = {arch: point for (arch, point), rank in ranked if rank == 0}
        self._fit()
        expected = self._evolved(list(best))
        new = [arch for arch in expected if arch not in self._asked]
        order = _best([expected[arch] for arch in new], CHILDREN)
        return _filling(
            list(best.values()),
            {new[i]: expected[new[i]] for i in order},
            max(BATCH, round(SHARE * len(self._points))),
        )

    def _fit(self) -> None:
        given = self._known(next(iter(self._points)))
        codes = np.array([self._space.encode(arch) for arch in self._points])
        self._models = {name: model for name, model in self._models.items() if name not in given}
        for name, model in self._models.items():
            place = self._objectives.index(name)
            model.fit(codes, [point[place] for point in self._points.values()])

    def _evolved(self, parents: list[Arch]) -> dict[Arch, Point]:
        """Return what is expected of ``parents`` and of all their children over the generations."""
        expected = self._expected(parents)
        for _ in range(GENERATIONS):
            born = dict.fromkeys(self._child(parents) for _ in range(CHILDREN))
            children = [child for child in born if child not in expected and self._allowed(child)]
            expected |= self._expected(children)
            together = [*parents, *children]
            parents = [together[i] for i in _best([expected[arch] for arch in together], POPULATION)]
        return expected

    def _child(self, parents: Sequence[Arch]) -> Arch:
        parent = self._rng.choice(parents)
        if self._rng.random() < CROSSOVER:
            parent = self._space.cross(parent, self._rng.choice(parents), self._rng)
        return self._space.mutate(parent, self._rng)

    def _expected(self, archs: Sequence[Arch]) -> dict[Arch, Point]:
        """Return a point for each arch: figures that are known, or as the surrogates hope."""
        if not archs:
            return {}
        codes = np.array([self._space.encode(arch) for arch in archs])
        given = [self._known(arch) for arch in archs]
        columns = []
        for name in self._objectives:
            if model := self._models.get(name):
                mean, sd = model.predict(codes)
                columns.append(model.figures(mean - OPTIMISM * sd).tolist())
            else:
                columns.append([figures[name] for figures in given])
        return dict(zip(archs, zip(*columns, strict=True), strict=True))


def _best(points: Sequence[Point], most: int) -> list[int]:
    """Return the indices of so many points at most, by rank and then the least crowded."""
    worth = worths(points)
    return sorted(range(len(points)), key=worth.__getitem__)[:most]


def _filling(found: Sequence[Point], expected: Mapping[Arch, Point], most: int) -> list[Arch]:
    """Return the archs that add most hyper-volume to the front ``found``, each given those before it.

    Objectives are scaled to the range of the front, of which the reference is a tenth beyond.
    """
    columns = list(zip(*found, strict=True))
    least = [min(column) for column in columns]
    ranges = [max(column) - low or abs(low) or 1.0 for column, low in zip(columns, least, strict=True)]

    def scaled(point: Point) -> Point:
        return tuple((x - low) / size for x, low, size in zip(point, least, ranges, strict=True))

    points, reference = [scaled(point) for point in found], (1.1,) * len(least)
    left = {arch: scaled(point) for arch, point in expected.items()}
    chosen: list[Arch] = []
    while left and len(chosen) < most:
        best = max(left, key=lambda arch: hypervolume([*points, left[arch]], reference))
        chosen.append(best)
        points.append(left.pop(best))
    return chosen
