"""Regularised evolution (Real et al. 2019, algorithm 1) with crossover, towards an optimum or a front."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from netsmith.arch import Arch
from netsmith.pareto import worths
from netsmith.search.searcher import Allowed, Draw, values
from netsmith.spaces.space import Space
from netsmith.trial import Trial


class Evolution:
    """A population that ages: the oldest trial leaves, whatever its worth.

    Asks for ``population`` draws first, then for children of the best of ``tournament`` random members:
    with probability ``crossover`` of two such parents, and always mutated. A child that is not
    ``allowed`` is drawn anew, ``RETRIES`` times at most, then replaced by a fresh draw. ``objectives``
    name the figures to minimise; of several, best is what lies in the first front of the population, there
    in the least crowded place.
    """

    RETRIES = 50

    def __init__(
        self,
        space: Space,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        population: int = 32,
        tournament: int = 8,
        crossover: float = 0.5,
        objectives: Sequence[str] = ("error",),
    ) -> None:
        self._space, self._draw, self._allowed = space, draw, allowed
        self._rng = Random(seed)
        self._size, self._tournament = population, tournament
        self._crossover, self._objectives = crossover, tuple(objectives)
        self._members: deque[Trial] = deque(maxlen=population)
        self._worths: list[tuple[int, float]] = []
        self._asked = 0

    def ask(self) -> Arch:
        """Return a draw while the population is young, then an allowed child."""
        self._asked += 1
        if self._asked <= self._size or not self._members:
            return self._draw(self._rng)
        for _ in range(self.RETRIES):
            child = self._child()
            if self._allowed(child):
                return child
        return self._draw(self._rng)

    def tell(self, trial: Trial) -> None:
        """Add the trial as the youngest member; the oldest leaves a full population."""
        self._members.append(trial)
        self._worths = worths([values(member, self._objectives) for member in self._members])

    def _child(self) -> Arch:
        parent = self._parent()
        if self._rng.random() < self._crossover:
            parent = self._space.cross(parent, self._parent(), self._rng)
        return self._space.mutate(parent, self._rng)

    def _parent(self) -> Arch:
        """The best of a random tournament; among equals the one drawn first."""
        size = min(self._tournament, len(self._members))
        drawn = self._rng.sample(range(len(self._members)), size)
        return self._members[min(drawn, key=self._worths.__getitem__)].arch
