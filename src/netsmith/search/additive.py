"""Exact answers where the cost of an arch is a sum over its decisions, as a latency table makes it.

Dynamic programming over cost on a fine grid: uniform draws within a range of cost, and the best arch
under a limit when scores add up too (the multiple-choice knapsack). No rejection loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from random import Random

import numpy as np
import numpy.typing as npt

from netsmith.costs import bent, straightened
from netsmith.errors import BudgetError

GRID = 4000


class AdditiveCost:
    """:class:`netsmith.costs.Costs` of choices, one option an edge: a sum, or what a bend makes of it.

    Each option's cost over the cheapest of its edge is rounded up to a grid of ``GRID`` steps between the
    cheapest and the dearest arch, so that nothing found under a limit is over it.
    """

    def __init__(self, constant: float, edges: Sequence[Sequence[float]], bend: float = 0.0) -> None:
        self.constant, self.bend = constant, bend
        self.edges = [np.asarray(row, float) for row in edges]
        self._least = constant + sum(float(row.min()) for row in self.edges)
        most = constant + sum(float(row.max()) for row in self.edges)
        self.least, self.most = bent(self._least, bend), bent(most, bend)
        self._step = max((most - self._least) / GRID, 1e-12)
        self._units = [np.ceil((row - row.min()) / self._step - 1e-9).astype(int) for row in self.edges]
        self._size = sum(int(units.max()) for units in self._units) + 1

    def of(self, choices: Sequence[int]) -> float:
        """Return the cost of ``choices``."""
        summed = sum(float(row[choice]) for row, choice in zip(self.edges, choices, strict=True))
        return bent(self.constant + summed, self.bend)

    def cheapest(self) -> tuple[int, ...]:
        """Return the choices of the least cost."""
        return tuple(int(row.argmin()) for row in self.edges)

    def dearest(self) -> tuple[int, ...]:
        """Return the choices of the greatest cost."""
        return tuple(int(row.argmax()) for row in self.edges)

    def sample(self, rng: Random, limit: float, at_least: float = 0.0) -> tuple[int, ...]:
        """Draw uniformly among the choices of cost ``at_least``..``limit``.

        Exact up to the grid. Raises :class:`BudgetError` where there are none.
        """
        counts = self._counts
        low = int(np.ceil(self._above(at_least) - 1e-9))
        high = self._limit(limit)
        total = counts[-1][low : high + 1]
        if high < low or total.sum() == 0:
            raise BudgetError(
                f"no arch costs between {at_least:.4g} and {limit:.4g}; "
                f"this space reaches from {self.least:.4g} to {self.most:.4g}"
            )
        left = low + _draw(total, rng)
        choices: list[int] = []
        for before, units in zip(reversed(counts[:-1]), reversed(self._units), strict=True):
            ways = np.array([before[left - u] if u <= left else 0.0 for u in units])
            choices.append(_draw(ways, rng))
            left -= int(units[choices[-1]])
        return tuple(reversed(choices))

    def best(self, scores: Sequence[Sequence[float]], limit: float, at_least: float = 0.0) -> tuple[int, ...]:
        """Return the choices of the greatest summed score among those of cost ``at_least``..``limit``.

        A score of ``-inf`` bars an option. Raises :class:`BudgetError` where nothing is under the limit.
        Exact up to the grid: what is within a grid step an edge of the limit may be taken for over it.
        """
        reach = np.full(self._limit(limit) + 1, -np.inf)
        reach[:1] = 0.0
        taken: list[npt.NDArray[np.int64]] = []
        for units, row in zip(self._units, scores, strict=True):
            moved = np.full((len(units), len(reach)), -np.inf)
            for option, unit in enumerate(units):
                if unit < len(reach):
                    moved[option, unit:] = reach[: len(reach) - unit] + row[option]
            taken.append(moved.argmax(0))
            reach = moved.max(0)
        low = int(np.ceil(self._above(at_least)))
        if np.isneginf(reach[low:].max(initial=-np.inf)):
            wanted = f"at most {limit:.4g}" + (f" and at least {at_least:.4g}" if at_least > 0 else "")
            raise BudgetError(
                f"no arch costs {wanted}; this space reaches from {self.least:.4g} to {self.most:.4g}"
            )
        left = low + int(reach[low:].argmax())
        choices: list[int] = []
        for units, options in zip(reversed(self._units), reversed(taken), strict=True):
            choices.append(int(options[left]))
            left -= int(units[choices[-1]])
        return tuple(reversed(choices))

    def _limit(self, limit: float) -> int:
        """The last grid step whose every arch is at or under ``limit``; -1 where there is none."""
        if limit >= self.most:  # rounded up edge by edge, the dearest archs lie above the grid's end
            return self._size - 1
        if limit < self.least:
            return -1
        return int(np.floor(self._above(limit) + 1e-9))

    def _above(self, cost: float) -> float:
        """How many grid steps the sum of ``cost`` is above the least, 0 at the least."""
        return max(0.0, straightened(cost, self.bend) - self._least) / self._step

    @cached_property
    def _counts(self) -> list[npt.NDArray[np.float64]]:
        """For each number of leading edges, how many choices reach each grid step."""
        counts = [np.zeros(self._size)]
        counts[0][0] = 1.0
        for units in self._units:
            after = np.zeros(self._size)
            for unit in units:
                after[unit:] += counts[-1][: self._size - unit]
            counts.append(after)
        return counts


def _draw(weights: npt.NDArray[np.float64], rng: Random) -> int:
    """Draw an index with probability in proportion to its weight."""
    sums = np.cumsum(weights)
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
