"""Local search (White et al. 2021, section 3): down to a local optimum, then from a new start.

Of several objectives Pareto local search (Paquete et al. 2004): the neighbours of a whole front are asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from netsmith.arch import Arch
from netsmith.pareto import dominates
from netsmith.search.searcher import Allowed, Draw, fresh, values
from netsmith.spaces.space import Space
from netsmith.trial import Trial


class LocalSearch:
    """Asks for the neighbours of the front of a descent, in random order; of one objective, of the best arch.

    The archs of the front take turns, so that all of it moves. Where no neighbour is left that was not asked,
    it starts again from a fresh draw with a new front. ``objectives`` name the figures to minimise.
    """

    def __init__(
        self,
        space: Space,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        objectives: Sequence[str] = ("error",),
    ) -> None:
        self._space, self._draw, self._allowed = space, draw, allowed
        self._objectives = tuple(objectives)
        self._rng = Random(seed)
        self._asked: set[Arch] = set()
        self._front: dict[Arch, tuple[float, ...]] = {}
        self._near: dict[Arch, list[Arch]] = {}

    def ask(self) -> Arch:
        """Return the next neighbour, or a fresh draw where there is none left."""
        if self._near:
            member, near = next(iter(self._near.items()))
            arch = near[-1]
            self._near[member] = self._near.pop(member)  # its turn comes again after the others'
        else:
            self._front.clear()
            arch = fresh(self._draw, self._asked, self._rng)
        self._asked.add(arch)
        unasked = {member: [other for other in near if other != arch] for member, near in self._near.items()}
        self._near = {member: near for member, near in unasked.items() if near}
        return arch

    def tell(self, trial: Trial) -> None:
        """Let the trial join the front where nothing in it is as good; then it brings its neighbours."""
        point = values(trial, self._objectives)
        front = self._front.items()
        if math.inf in point or any(other == point or dominates(other, point) for _, other in front):
            return
        for beaten in [arch for arch, other in front if dominates(point, other)]:
            del self._front[beaten]
            self._near.pop(beaten, None)
        self._front[trial.arch] = point
        near = [a for a in self._space.neighbours(trial.arch) if a not in self._asked and self._allowed(a)]
        self._rng.shuffle(near)
        if near:
            self._near[trial.arch] = near
