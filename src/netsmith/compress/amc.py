"""AMC's walk over a network (He et al. 2018): an agent says of one group after the other how much stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from netsmith.compress.allocation import Choices, Cost, Widths, levelled
from netsmith.compress.channels import Group, Layer

_PRECISION = 1e-3  # of an action that is bounded


class ChannelWalk:
    """What :func:`netsmith.compress.agent.search_walk` walks over: one step a group, in the network's order.

    ``score`` gives the accuracy, 0..1, of the network with such widths, before any fine-tuning. The reward is
    that accuracy less one: the published -Error; with ``accuracy_guaranteed`` -Error * ln(cost) (section 3.3,
    equation 4). An action a keeps about a share a of the group's channels. It is bounded so that ``limit``
    stays within reach with the fewest channels of all groups to come (section 3.3, algorithm 1). Unlike
    there, what a finished walk leaves of the limit is given back to all groups: under -Error alone nothing
    is gained by channels that are not used, and the agent need not learn that.
    """

    def __init__(
        self,
        choices: Choices,
        cost: Cost,
        limit: float,
        score: Callable[[Widths], float],
        *,
        accuracy_guaranteed: bool = False,
    ) -> None:
        choices.check(cost, limit)
        self._choices, self._cost, self._limit, self._score = choices, cost, limit, score
        self._guaranteed = accuracy_guaranteed
        self._groups = choices.channels.groups
        self._rows = _features(self._groups, choices.channels.layers)
        self._whole = cost({})

    @property
    def steps(self) -> int:
        """One a group."""
        return len(self._groups)

    @property
    def features(self) -> int:
        """Eleven, as published."""
        return len(self._rows[0]) + 3

    def state(self, actions: Sequence[float]) -> Sequence[float]:
        """Return the eleven features of the step that comes after ``actions``, each in 0..1.

        t, n, c, h, w, stride, k, cost of the layer, cost that is saved so far, cost that is left in groups to
        come, and the last action (section 3.1).
        """
        t = len(actions)
        widths = self._asked(actions)
        cost = self._cost(widths)
        coming = {group.name: self._choices.of[group.name][0] for group in self._groups[t:]}
        saved = 1 - cost / self._whole
        rest = (cost - self._cost({**widths, **coming})) / self._whole
        return [*self._rows[t], saved, rest, actions[-1] if actions else 1.0]

    def bounded(self, actions: Sequence[float], action: float) -> float:
        """Return the action, or the greatest below it that leaves the limit within reach."""
        if self._reachable([*actions, action]):
            return action
        low, high = 0.0, action
        while high - low > _PRECISION:
            middle = (low + high) / 2
            low, high = (middle, high) if self._reachable([*actions, middle]) else (low, middle)
        return low

    def reward(self, actions: Sequence[float]) -> float:
        """Return the reward of a finished walk."""
        widths = self.widths(actions)
        error = 1 - self._score(widths)
        return -error * math.log(self._cost(widths)) if self._guaranteed else -error

    def widths(self, actions: Sequence[float]) -> Widths:
        """Return the widths that the actions of a finished walk stand for."""
        if self._guaranteed:
            return self._asked(actions)
        ratios = {group.name: action for group, action in zip(self._groups, actions, strict=True)}
        return levelled(self._choices, ratios, self._cost, self._limit)

    def actions(self, widths: Mapping[str, int]) -> tuple[float, ...]:
        """Return the walk that gives these widths, where they are within the limit and use it up."""
        return tuple(widths[group.name] / group.channels for group in self._groups)

    def _asked(self, actions: Sequence[float]) -> Widths:
        """The widths nearest to the actions, one for each of the first groups."""
        named = zip(self._groups, actions, strict=False)
        return self._choices.widths({group.name: action for group, action in named})

    def _reachable(self, actions: Sequence[float]) -> bool:
        least = {group.name: self._choices.of[group.name][0] for group in self._groups[len(actions) :]}
        return self._cost({**self._asked(actions), **least}) <= self._limit


def _features(groups: Sequence[Group], layers: Sequence[Layer]) -> list[list[float]]:
    """Of each group what does not change: t, n, c, h, w, stride, k and cost, each scaled to 0..1.

    n are the channels, of the layer that makes them first; c, h and w those of what it reads.
    """
    by_name = {layer.name: layer for layer in layers}
    columns = zip(*(_row(t, group, by_name[group.name]) for t, group in enumerate(groups)), strict=True)
    return [list(row) for row in zip(*map(_scaled, columns), strict=True)]


def _row(t: int, group: Group, layer: Layer) -> list[float]:
    kernel = math.prod(layer.kernel) ** 0.5
    return [
        t, group.channels, layer.in_channels, layer.height, layer.width, layer.stride, kernel, layer.macs,
    ]  # fmt: skip


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
