"""HAQ's agent (Wang et al. 2019) over the files of a real runtime: int8 or float32, layer by layer.

Where simulated hardware says what a policy costs, here files are measured. The agent's choice is lowered to
the limits by what single layers were measured to change; the file of every episode is then measured whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.agent import search_walk
from netsmith.compress.floating import Effects, Layers, Measure, Outcome
from netsmith.compress.precision import REWARD, layer_features, scaled
from netsmith.errors import BudgetError, SettingsError

DECAY, REMEMBERED = 0.95, 64  # few episodes: AMC's decay of what is explored, HAQ's 0.99 being for 600


def search_floating(
    shapes: Mapping[str, ConvShape],
    measure: Measure,
    limits: Mapping[str, float],
    *,
    episodes: int,
    seed: int,
) -> Layers:
    """Return the float32 layers of the least loss within ``limits`` that HAQ's agent came to.

    ``shapes`` are the layers by name, in the order that it walks them. What no layer and each layer alone
    changes is measured first, then a file an episode, or none where it comes to one that was measured. Where
    none keeps the limits it is the one that is over them by the least. The same seed measures the same files
    where ``measure`` says the same. Raises :class:`netsmith.errors.BudgetError` where not even the sum of
    single measurements gives hope, and :class:`netsmith.errors.MissingExtraError` without Stable-Baselines3.
    """
    if not limits:
        raise SettingsError("HAQ's agent chooses precisions under limits; give it at least one")
    effects = Effects.measured(list(shapes), measure)
    effects.best(limits)  # raises where nothing is within reach
    walk = FloatingWalk(shapes, effects, measure, limits)
    search_walk(
        walk, episodes=episodes, warmup=max(1, episodes // 4), decay=DECAY, remembered=REMEMBERED, seed=seed
    )
    return min(walk.seen, key=lambda layers: (walk.excess(walk.seen[layers]), walk.seen[layers].loss))


@dataclass
class FloatingWalk:
    """One step a layer: an action below a half makes it int8, any other float32."""

    shapes: Mapping[str, ConvShape]
    effects: Effects
    measure: Measure
    limits: Mapping[str, float]
    seen: dict[Layers, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = [layer_features(number, shape) for number, shape in enumerate(self.shapes.values())]
        self._rows = scaled(rows)
        self._aims = dict(self.limits)
        singles = {frozenset({name}): outcome for name, outcome in self.effects.alone.items()}
        self.seen |= {frozenset(): self.effects.none, **singles}

    @property
    def steps(self) -> int:
        """One a layer."""
        return len(self._rows)

    @property
    def features(self) -> int:
        """HAQ's eight of a layer, and the last action: there is one decision a layer and no bits to tell."""
        return len(self._rows[0]) + 1

    def state(self, actions: Sequence[float]) -> Sequence[float]:
        """Return the features of the layer that comes after ``actions``, each in 0..1."""
        return [*self._rows[len(actions)], actions[-1] if actions else 1.0]

    def bounded(self, actions: Sequence[float], action: float) -> float:
        """Return the middle of the stretch of actions that stand for the same precision."""
        return 0.25 if action < 0.5 else 0.75

    def reward(self, actions: Sequence[float]) -> float:
        """Return what is to be great: the loss of int8 throughout less that of the file, times ten.

        HAQ's is 0.1 (acc - acc_orig) in per cent. Files of one network in two precisions differ by a few
        images of thousands, or by none, and then the accuracy says nothing of a policy; the cross-entropy
        does, and is what the answer is chosen by. What a limit is broken by, as a part of it, is taken off.
        """
        floating = self.lowered(actions)
        if floating not in self.seen:
            self.seen[floating] = self.measure(floating)
            self._aim_lower(floating)
        outcome = self.seen[floating]
        return REWARD * (self.effects.none.loss - outcome.loss - self.excess(outcome))

    def lowered(self, actions: Sequence[float]) -> Layers:
        """Return the float32 layers of a finished walk, such as should keep the limits.

        As HAQ's walk: from the last layer to the first precision falls, where that lessens what a limit is
        broken by, until none is. An int8 layer that its runtime is slower at rises instead. Where that does
        not suffice, it is what the integer programme finds.
        """
        chosen = frozenset(name for name, a in zip(self.shapes, actions, strict=True) if a >= 0.5)
        for name in reversed(list(self.shapes)):
            over = self._predicted_excess(chosen)
            if over == 0:
                return chosen
            other = chosen ^ {name}
            chosen = other if self._predicted_excess(other) < over else chosen
        if self._predicted_excess(chosen) == 0:
            return chosen
        try:
            return self.effects.best(self._aims)
        except BudgetError:
            return self.effects.best(self.limits)

    def excess(self, outcome: Outcome) -> float:
        """Return by how much limits are broken, each as a part of itself, added up; 0 where none is."""
        return sum(max(0.0, outcome.figures[name] / limit - 1) for name, limit in self.limits.items())

    def _predicted_excess(self, floating: Layers) -> float:
        figures = self.effects.predicted(floating).figures
        return sum(max(0.0, (figures[name] - aim) / self.limits[name]) for name, aim in self._aims.items())

    def _aim_lower(self, floating: Layers) -> None:
        """Aim at less by as much as a file was over what was predicted of it."""
        expected = self.effects.predicted(floating).figures
        for name, limit in self.limits.items():
            over = self.seen[floating].figures[name] - limit
            if over > 0:
                self._aims[name] = min(self._aims[name], expected[name] - over)
