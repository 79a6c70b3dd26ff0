"""Which layers of an int8 network stay float32, by what a runtime measures of its files.

What each layer alone changes is measured, and taken to add up: an integer programme, as that of HAWQ-V3 (Yao
et al. 2021), then finds the layers of the least loss within the limits. What it finds is measured whole.
Where that breaks a limit, by as much less is aimed at; once it keeps them, one layer or two are tried the
other way. Without limits it is the other way round: the fastest file is looked for that is accurate enough.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from netsmith.errors import BudgetError, CompressionError

Layers = frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What was measured of a file: its loss on validation images, and the figures that limits are of."""

    loss: float
    figures: Mapping[str, float]


Measure = Callable[[Layers], Outcome]
"""The outcome of the file in which these layers are float32 and the others int8."""


@dataclass(frozen=True)
class Effects:
    """Outcomes as a sum: that of no float32 layer, and what each layer alone changes."""

    none: Outcome
    alone: Mapping[str, Outcome]

    @classmethod
    def measured(cls, layers: Sequence[str], measure: Measure) -> Effects:
        """Measure every layer alone. Raises :class:`CompressionError` where there are none."""
        if not layers:
            raise CompressionError("there is no convolution or linear layer whose precision could be chosen")
        return cls(measure(frozenset()), {layer: measure(frozenset({layer})) for layer in layers})

    def predicted(self, floating: Collection[str]) -> Outcome:
        """Return what these layers should give together."""
        changes = [self.alone[layer] for layer in floating]
        figures = {
            name: value + sum(change.figures[name] - value for change in changes)
            for name, value in self.none.figures.items()
        }
        return Outcome(self.none.loss + sum(c.loss - self.none.loss for c in changes), figures)

    def best(self, limits: Mapping[str, float]) -> Layers:
        """Return the layers of the least predicted loss within ``limits`` of the predicted figures.

        Exact but for a part in 10^6 of a limit. Raises :class:`BudgetError` where no layers keep them.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        names = list(self.alone)
        changes = np.array([self.alone[name].loss - self.none.loss for name in names])
        constraints = []
        for figure, limit in limits.items():
            now = self.none.figures[figure]
            row = [(self.alone[name].figures[figure] - now) / abs(limit) for name in names]
            constraints.append(LinearConstraint(np.array([row]), ub=(limit - now) / abs(limit) - 1e-6))
        solved = milp(
            changes / max(float(np.abs(changes).max()), 1e-300),
            integrality=np.ones(len(names)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        if solved.x is None:
            raise BudgetError(
                "no choice of float32 layers should keep the limits: in int8 the network takes "
                + ", ".join(
                    f"{name} {self.none.figures[name]:.4g} of {limit:.4g}" for name, limit in limits.items()
                )
            )
        return frozenset(name for name, taken in zip(names, solved.x, strict=True) if taken > 0.5)


def choose_floating(
    layers: Sequence[str], measure: Measure, limits: Mapping[str, float], *, most: int
) -> Iterator[tuple[Layers, Outcome]]:
    """Yield what is measured on the way to the float32 layers of the least loss within ``limits``, in turn.

    ``most`` files are measured beside that of no such layer and those of one. The best is the one of the
    least loss among the outcomes within the limits (:func:`within`); where none is, none may be. Raises
    :class:`BudgetError` where not even the sum of single measurements gives hope.
    """
    effects = Effects.measured(layers, measure)
    seen = {frozenset(): effects.none, **{frozenset({k}): v for k, v in effects.alone.items()}}
    yield from seen.items()
    aims = dict(limits)
    for _ in range(most):
        asked = _next(effects, aims, limits, seen)
        if asked is None:
            return
        seen[asked] = measure(asked)
        yield asked, seen[asked]
        expected = effects.predicted(asked)
        for name, limit in limits.items():
            over = seen[asked].figures[name] - limit
            if over > 0:
                aims[name] = min(aims[name], expected.figures[name] - over)


def fastest_floating(
    layers: Sequence[str], measure: Measure, accurate: Callable[[Layers], bool], *, most: int
) -> Iterator[tuple[Layers, Outcome]]:
    """Yield what is measured on the way to the fastest file that is ``accurate``, in turn.

    Int8 throughout, where that is: then nothing else. Otherwise ``most`` files beside those of one layer,
    each the fastest that the programme finds at a loss of at most so much, which is bisected between the
    least there is and that of int8; and last float32 throughout. Raises :class:`CompressionError` without
    layers.
    """
    none = measure(frozenset())
    yield frozenset(), none
    if accurate(frozenset()):
        return
    effects = Effects.measured(layers, measure)
    seen = {frozenset(): none, **{frozenset({name}): outcome for name, outcome in effects.alone.items()}}
    yield from list(seen.items())[1:]
    times = Effects(_by_time(none), {name: _by_time(outcome) for name, outcome in effects.alone.items()})
    low, high = effects.predicted(effects.best({})).loss, none.loss
    for _ in range(most):
        aim = (low + high) / 2
        if not low < aim < high:
            break
        asked = times.best({"loss": aim})
        if asked not in seen:
            seen[asked] = measure(asked)
            yield asked, seen[asked]
        low, high = (aim, high) if accurate(asked) else (low, aim)
    if frozenset(layers) not in seen:
        yield frozenset(layers), measure(frozenset(layers))


def _by_time(outcome: Outcome) -> Outcome:
    """An outcome whose latency is to be small, and whose loss is limited."""
    return Outcome(outcome.figures["latency_ms"], {"loss": outcome.loss})


def within(outcome: Outcome, limits: Mapping[str, float]) -> bool:
    """Whether an outcome keeps the limits."""
    return all(outcome.figures[name] <= limit for name, limit in limits.items())


def _next(
    effects: Effects,
    aims: Mapping[str, float],
    limits: Mapping[str, float],
    seen: Mapping[Layers, Outcome],
) -> Layers | None:
    """The programme's answer where it was not measured yet, else the most hopeful neighbour of the best."""
    try:
        asked = effects.best(aims)
    except BudgetError:
        if len(seen) == len(effects.alone) + 1:
            raise
        asked = frozenset()
    if asked not in seen:
        return asked
    kept = [floating for floating, outcome in seen.items() if within(outcome, limits)]
    if not kept:
        return None
    best = min(kept, key=lambda floating: seen[floating].loss)
    now, here = effects.predicted(best), seen[best]
    hopes = []
    for layers in chain(combinations(effects.alone, 1), combinations(effects.alone, 2)):
        other = best.symmetric_difference(layers)
        expected = effects.predicted(other)
        loss = here.loss + expected.loss - now.loss
        fits = all(
            here.figures[name] + expected.figures[name] - now.figures[name] <= limit
            for name, limit in limits.items()
        )
        if other not in seen and fits and loss < here.loss:
            hopes.append((loss, sorted(other), other))
    return min(hopes)[2] if hopes else None
