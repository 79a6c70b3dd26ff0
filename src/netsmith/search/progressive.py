"""DPP-Net's progressive search (Dong et al. 2018): from short archs to long ones, a layer or a few at a time.

Error is learned by training and predicted by a surrogate before it; what else matters (parameters, latency,
memory) is known of an arch without training. All objectives are minimised.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from netsmith.arch import Arch
from netsmith.errors import BudgetError, SettingsError
from netsmith.pareto import worths
from netsmith.search.searcher import Allowed
from netsmith.spaces.space import GrowingSpace
from netsmith.trial import Trial

if TYPE_CHECKING:  # the file imports PyTorch
    from netsmith.search.sequence import SequenceSurrogate

FIRST = 32

Known = Callable[[Arch], Mapping[str, float]]
"""Figures of an arch that take no training, by name; asked once of an arch."""


class ProgressiveSearch:
    """Asks for the shortest archs, then again and again for the ``width`` most promising that are longer.

    Of the shortest it asks for all, or for the greater of ``width`` and ``first`` where they are more: those
    that together hold every token about as often as any other.

    One level is a step of the paper's loop. *Train and mutate*: when the level was told, the ``width``
    best of it become parents, and all their children that are ``allowed`` are considered. With ``layers``
    these are longer by so many layers, as where one alone says little of what it leads to. *Update and
    infer*: the surrogate is fitted to every trial so far and predicts the children's ``objectives[0]``.
    *Select*: the ``width`` first by Pareto dominance over that and the ``known`` other objectives are asked
    for; whole fronts while they fit, of the next the least crowded (our choice; the paper does not say).

    Where no parent can grow, levels are taken from every child that was considered and never asked for, and
    from the children of those. Asked for more while a level is under way, it goes on down that level's
    order, so that workers need not wait for each other. A trial that failed counts as the worst so far, and
    is a parent only where all failed. When every arch in reach was asked for, they come again.

    What it asks follows from the seed and the order of asks and tells alone; from tells alone where no more
    was asked than a level.
    """

    def __init__(
        self,
        space: GrowingSpace,
        seed: int,
        surrogate: SequenceSurrogate,
        *,
        known: Known = lambda arch: {},
        objectives: Sequence[str] = ("error",),
        width: int = 32,
        first: int = FIRST,
        layers: int = 1,
        allowed: Allowed = lambda arch: True,
    ) -> None:
        if width < 1 or layers < 1 or not objectives:
            raise SettingsError(
                "width and layers are 1 or more, and there is at least one objective; "
                f"got {width}, {layers} and {list(objectives)}"
            )
        self._space, self._surrogate, self._allowed = space, surrogate, allowed
        self._known, self._objectives = known, tuple(objectives)
        self._width, self._layers = width, layers
        self._costs: dict[Arch, tuple[float, ...]] = {}
        self._errors: dict[Arch, float] = {}
        self._asked: dict[Arch, None] = {}  # in order, as all these dictionaries of None
        self._considered: dict[Arch, None] = {}
        self._grown = False
        shortest = self._new(space.children(None))
        if not shortest:
            raise BudgetError("none of the shortest archs is allowed; allow more, or begin with shorter ones")
        Random(seed).shuffle(shortest)
        self._start(_covering(shortest, space), max(width, first))

    def ask(self) -> Arch:
        """Return the next of the level, or of what is next best while the level is under way."""
        if not self._queue:
            self._queue.extend(self._awaited or self._asked)
        arch = self._queue.popleft()
        self._asked[arch] = None
        return arch

    def tell(self, trial: Trial) -> None:
        """Learn from the trial; the last of a level starts the next."""
        value = trial.figures.get(self._objectives[0], math.inf) if trial.valid else math.inf
        self._errors[trial.arch] = value
        self._asked[trial.arch] = None
        if trial.arch in self._queue:
            self._queue.remove(trial.arch)
        self._awaited.pop(trial.arch, None)
        if not self._awaited:
            self._grow()

    def _start(self, order: list[Arch], width: int) -> None:
        """Make the first ``width`` of ``order`` the level, the others what follows while it is under way."""
        left = [arch for arch in self._considered if arch not in self._asked]
        self._considered.update(dict.fromkeys(order))
        self._level = dict.fromkeys(order)
        self._awaited = dict.fromkeys(order[:width])
        self._queue = deque(dict.fromkeys([*order, *left]))

    def _grow(self) -> None:
        """Start the next level, one longer while there is one."""
        children = self._children(self._parents())
        self._grown |= not children
        if self._grown:
            self._considered.update(dict.fromkeys(children))
            children = [arch for arch in self._considered if arch not in self._asked]
            children = children or self._children(self._asked)
        order = _best_first(self._predicted(children)) if children else []
        self._start([children[i] for i in order], self._width)

    def _parents(self) -> list[Arch]:
        """Return the ``width`` best of the level by what was found of them."""
        told = [arch for arch in self._level if arch in self._errors]
        found = [arch for arch in told if math.isfinite(self._errors[arch])]
        if not found:
            return told[: self._width]
        points = [(self._errors[arch], *self._cost(arch)) for arch in found]
        return [found[i] for i in _best_first(points)[: self._width]]

    def _children(self, parents: Iterable[Arch]) -> list[Arch]:
        """Return what grows from ``parents``: of the last of ``layers`` generations that has any new."""
        found: list[Arch] = []
        generation = list(parents)
        for _ in range(self._layers):
            generation = [child for parent in generation for child in self._space.children(parent)]
            found = self._new(generation) or found
        return found

    def _new(self, archs: Iterable[Arch]) -> list[Arch]:
        """Return those that may be asked and were not, each once."""
        return [arch for arch in dict.fromkeys(archs) if arch not in self._asked and self._allowed(arch)]

    def _predicted(self, archs: Sequence[Arch]) -> list[tuple[float, ...]]:
        """Return the objectives of archs that were not trained, by the surrogate fitted anew."""
        found = [value for value in self._errors.values() if math.isfinite(value)]
        worst = max(found, default=1.0)
        values = [value if math.isfinite(value) else worst for value in self._errors.values()]
        self._surrogate.fit([self._space.tokens(arch) for arch in self._errors], values)
        errors, _ = self._surrogate.predict([self._space.tokens(arch) for arch in archs])
        return [(float(error), *self._cost(arch)) for error, arch in zip(errors, archs, strict=True)]

    def _cost(self, arch: Arch) -> tuple[float, ...]:
        """Return the objectives that are known without training."""
        if arch not in self._costs:
            known = self._known(arch)
            self._costs[arch] = tuple(known[name] for name in self._objectives[1:])
        return self._costs[arch]


def _covering(archs: Sequence[Arch], space: GrowingSpace) -> list[Arch]:
    """Order archs so that those at the front hold every token about as often as any other."""
    left = {arch: space.tokens(arch) for arch in archs}
    seen = [0] * (space.vocabulary + 1)
    order = []
    while left:
        arch = min(left, key=lambda arch: sum(seen[token] for token in left[arch]))
        for token in left.pop(arch):
            seen[token] += 1
        order.append(arch)
    return order


def _best_first(points: Sequence[Sequence[float]]) -> list[int]:
    """Order points by the front they are on, and on a front the least crowded first."""
    return sorted(range(len(points)), key=worths(points).__getitem__)
