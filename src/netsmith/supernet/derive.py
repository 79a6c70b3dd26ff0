"""From path probabilities to archs within the budget."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import torch

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.search.additive import AdditiveCost
from netsmith.supernet.paths import Paths

SHARES = (0.98, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8)
DRAWS = 400


class OpenPaths:
    """The archs that a search left open, and their costs: those of its supernet that can still be cut out."""

    def __init__(self, paths: Paths, costs: AdditiveCost) -> None:
        self._space = paths.space
        self._open: list[list[int]] = [row.nonzero()[:, 0].tolist() for row in paths.open]
        self.costs = AdditiveCost(
            costs.constant,
            [[float(row[i]) for i in kept] for row, kept in zip(costs.edges, self._open, strict=True)],
            costs.bend,
        )

    def __contains__(self, arch: Arch) -> bool:
        """Whether every choice of ``arch`` is open."""
        return all(choice in kept for choice, kept in zip(arch.choices, self._open, strict=True))

    def cost(self, arch: Arch) -> float:
        """Return what ``arch``, whose choices are all open, costs."""
        places = (kept.index(choice) for kept, choice in zip(self._open, arch.choices, strict=True))
        return self.costs.of(tuple(places))

    def draw(self, rng: Random, limit: float, at_least: float = 0.0) -> Arch:
        """Draw uniformly among the open archs of cost ``at_least``..``limit``.

        Raises :class:`netsmith.errors.BudgetError` where there are none.
        """
        return self._arch(self.costs.sample(rng, limit, at_least))

    def cheapest(self) -> Arch:
        """Return the open arch of the least cost."""
        return self._arch(self.costs.cheapest())

    def _arch(self, positions: tuple[int, ...]) -> Arch:
        return self._space.arch(tuple(kept[i] for kept, i in zip(self._open, positions, strict=True)))


def derive(
    paths: Paths, costs: AdditiveCost, limit: float, number: int, seed: int, *, least_use: float = 0.0
) -> list[Arch]:
    """Return up to ``number`` distinct archs of predicted cost up to ``limit``, the most probable first.

    The published search takes the largest p of every edge, which may be over any limit. Here the most
    probable arch *within* the limit is found exactly (a knapsack over log p), within some shares of the
    limit too, and what a bounded number of draws from p finds joins them. ``least_use`` is the share of the
    limit that an arch must cost, as far as there are such. Raises
    :class:`netsmith.errors.BudgetError` where no open path is within the limit.
    """
    log_p = paths.log_probabilities().detach()
    rows = log_p.tolist()
    low = least_use * limit
    try:
        found = {costs.best(rows, limit, low)}
    except BudgetError:
        low = 0.0
        found = {costs.best(rows, limit)}
    for share in SHARES:
        with suppress(BudgetError):  # a tighter share may be out of the open paths' reach
            found.add(costs.best(rows, share * limit, low))
    generator = torch.Generator().manual_seed(Random(seed).getrandbits(32))
    for _ in range(DRAWS):
        if len(found) >= 2 * number:
            break
        choices = paths.sample(generator).choices
        if low <= costs.of(choices) <= limit:
            found.add(choices)
    archs = [Arch(paths.space.id, choices) for choices in found]
    archs.sort(key=lambda arch: (-float(paths.log_probability(arch).detach()), arch.choices))
    return archs[:number]
