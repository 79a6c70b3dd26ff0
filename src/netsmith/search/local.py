"""Local search (White et al. 2021, section 3): down to a local optimum, then from a new start."""

from __future__ import annotations

import math
from random import Random

from netsmith.arch import Arch
from netsmith.search.searcher import Allowed, Draw
from netsmith.spaces.space import Space
from netsmith.trial import Trial


class LocalSearch:
    """Asks for the neighbours of the best arch of a descent, in random order, and moves to the first better.

    Where none of them is better and was not asked, it starts again from a fresh draw. ``objective`` names the
    figure to minimise.
    """

    RETRIES = 20

    def __init__(
        self,
        space: Space,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        objective: str = "error",
    ) -> None:
        self._space, self._draw, self._allowed, self._objective = space, draw, allowed, objective
        self._rng = Random(seed)
        self._asked: set[Arch] = set()
        self._best = math.inf
        self._near: list[Arch] = []

    def ask(self) -> Arch:
        """Return the next neighbour, or a fresh draw where there is none left."""
        if self._near:
            arch = self._near.pop()
        else:
            self._best = math.inf
            arch = self._fresh()
        self._asked.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Go on from the trial where it is the best of this descent."""
        value = trial.figures.get(self._objective, math.inf) if trial.valid else math.inf
        if value < self._best:
            self._best = value
            near = self._space.neighbours(trial.arch)
            self._near = [arch for arch in near if arch not in self._asked and self._allowed(arch)]
            self._rng.shuffle(self._near)

    def _fresh(self) -> Arch:
        arch = self._draw(self._rng)
        for _ in range(self.RETRIES):
            if arch not in self._asked:
                break
            arch = self._draw(self._rng)
        return arch
