"""How many channels every group keeps, so that a network costs no more than a limit.

A cost is a function of widths, such as :meth:`Channels.macs` or a device's predicted milliseconds, that
falls with each of them. Groups that ``widths`` do not name are whole.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from netsmith.compress.channels import Channels, Group
from netsmith.compress.importance import Scores, best_of
from netsmith.errors import BudgetError
from netsmith.search.additive import AdditiveCost

Widths = dict[str, int]
Cost = Callable[[Mapping[str, int]], float]

STEP, LEAST = 8, 0.2  # channels that runtimes like, and the share that AMC leaves of a layer at least
_HALVINGS, _ROUNDS = 40, 6
# What a knapsack aims at, of the limit: a hair more, as its grid rounds costs up, then less and less, because
# costs at other widths of the neighbours are not those of these.
_AIMS = (1.002, 1.0, 0.99, 0.98, 0.96, 0.93, 0.9)


class Choices:
    """The widths that groups may have: all channels, and multiples of ``step`` from a share ``least`` up.

    Of a group in parts, multiples of these too. Where so coarse a step leaves fewer than four widths, half of
    it is taken, and so on down.
    """

    def __init__(self, channels: Channels, *, step: int = STEP, least: float = LEAST) -> None:
        self.channels = channels
        self.of = {group.name: _multiples(group, step, least) for group in channels.groups}

    def widths(self, ratios: Mapping[str, float]) -> Widths:
        """Return the widths nearest to these shares of the channels, of the groups that are named."""
        return {
            group.name: self.nearest(group, ratios[group.name])
            for group in self.channels.groups
            if group.name in ratios
        }

    def nearest(self, group: Group, ratio: float) -> int:
        """Return the width of a group nearest to a share of its channels, of two the fewer."""
        widths, aim = self.of[group.name], ratio * group.channels
        above = min(bisect_left(widths, aim), len(widths) - 1)
        below = max(above - 1, 0)
        return widths[below if aim - widths[below] <= widths[above] - aim else above]

    @property
    def least(self) -> Widths:
        """The fewest channels of every group."""
        return {name: widths[0] for name, widths in self.of.items()}

    def check(self, cost: Cost, limit: float) -> None:
        """Raise :class:`BudgetError` where even the fewest channels cost more than ``limit``."""
        fewest = cost(self.least)
        if fewest > limit:
            raise BudgetError(
                f"with the fewest channels that may stay the network costs {fewest:.6g}, over the limit of "
                f"{limit:.6g}; whole it costs {cost({}):.6g}. Allow more, or begin with a smaller network"
            )


def uniform(choices: Choices, cost: Cost, limit: float) -> Widths:
    """Return the widths of the greatest share, the same of every group, within ``limit``.

    Raises :class:`BudgetError` where there are none.
    """

    def widths(share: float) -> Widths:
        return choices.widths({group.name: share for group in choices.channels.groups})

    return _greatest(choices, cost, limit, widths)


def by_score(choices: Choices, scores: Scores, cost: Cost, limit: float) -> Widths:
    """Return the widths that are left when channels go in the order of ``scores`` over all groups alike.

    Raises :class:`BudgetError` where no widths are within ``limit``.
    """
    every = sorted(float(score) for of_group in scores.values() for score in of_group)

    def widths(share: float) -> Widths:
        bar = every[min(len(every) - 1, int((1 - share) * len(every)))] if share < 1 else -math.inf
        ratios = {
            group.name: float((scores[group.name] >= bar).double().mean())
            for group in choices.channels.groups
        }
        return choices.widths(ratios)

    return _greatest(choices, cost, limit, widths)


def knapsack(choices: Choices, scores: Scores, cost: Cost, limit: float) -> Widths:
    """Return the widths of the most summed score within ``limit``, after HALP (Shen et al. 2022).

    What a width costs depends on its neighbours', so that the limit comes down in rounds: in each the cost of
    every width of a group is taken with the others as they are, and the knapsack of these solved exactly. So
    a staircase of latency is seen as it is. Raises :class:`BudgetError` where no widths are within ``limit``.
    """
    choices.check(cost, limit)
    groups = choices.channels.groups
    values = [[_kept_score(group, scores, width) for width in choices.of[group.name]] for group in groups]
    current: Widths = {group.name: group.channels for group in groups}
    whole = cost(current)
    for number in range(1, _ROUNDS):
        current = _filled(choices, values, cost, current, whole * (limit / whole) ** (number / _ROUNDS))
    for aim in _AIMS:
        current = _filled(choices, values, cost, current, aim * limit)
        if cost(current) <= limit:
            return current
    return by_score(choices, scores, cost, limit)


def _filled(
    choices: Choices, values: Sequence[Sequence[float]], cost: Cost, current: Widths, limit: float
) -> Widths:
    """The knapsack of the most value, each width at its cost among the ``current`` ones."""
    now = cost(current)
    costs = [[cost({**current, name: w}) - now for w in widths] for name, widths in choices.of.items()]
    additive = AdditiveCost(now, costs)
    try:
        chosen = additive.best(values, limit)
    except BudgetError:  # far from where they were taken the costs mislead; the next round begins nearer
        chosen = additive.cheapest()
    return {name: widths[i] for (name, widths), i in zip(choices.of.items(), chosen, strict=True)}


def drawn(choices: Choices, cost: Cost, limit: float, seed: int) -> Iterator[Widths]:
    """Yield widths within ``limit`` without end: a share drawn for every group, all to a power that keeps it.

    Raises :class:`BudgetError` where there are none.
    """
    choices.check(cost, limit)
    rng = Random(seed)
    while True:
        yield levelled(choices, {group.name: rng.random() for group in choices.channels.groups}, cost, limit)


def levelled(choices: Choices, ratios: Mapping[str, float], cost: Cost, limit: float) -> Widths:
    """Return the widths of these shares, all to the one power that uses up the most of ``limit``.

    Raises :class:`BudgetError` where there are none.
    """

    def widths(share: float) -> Widths:
        return choices.widths({name: ratio ** (1 / share - 1) for name, ratio in ratios.items()})

    return _greatest(choices, cost, limit, widths)


def kept_of(channels: Channels, scores: Scores, widths: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the channels of the highest scores, so many of each group that ``widths`` names."""
    return {
        group.name: best_of(group, scores[group.name], widths[group.name])
        for group in channels.groups
        if group.name in widths
    }


def _greatest(choices: Choices, cost: Cost, limit: float, widths: Callable[[float], Widths]) -> Widths:
    """The widths of the greatest share in (0, 1] whose cost is within the limit, by halving.

    What is known of the same widths is not asked for again: costs may be slow predictions.
    """
    choices.check(cost, limit)
    low, high = 1e-6, 1.0
    kept, over = choices.least, widths(high)
    if cost(over) <= limit:
        return over
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = widths(middle)
        if tried != over and (tried == kept or cost(tried) <= limit):
            kept, low = tried, middle
        else:
            over, high = tried, middle
    return kept


def _kept_score(group: Group, scores: Scores, width: int) -> float:
    score = scores[group.name]
    return float(score[best_of(group, score, width)].sum())


def _multiples(group: Group, step: int, least: float) -> list[int]:
    while True:
        unit = math.lcm(step, group.parts)
        low = max(unit, math.ceil(least * group.channels / unit) * unit)
        found = sorted({*range(low, group.channels, unit), group.channels})
        if len(found) >= 4 or step == 1:
            return found
        step //= 2
