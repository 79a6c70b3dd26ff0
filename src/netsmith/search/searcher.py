"""What every searcher is: an ask/tell strategy that sees spaces and trials alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from random import Random
from typing import Protocol

from netsmith.arch import Arch
from netsmith.trial import Trial

Draw = Callable[[Random], Arch]
"""Draws an arch that may be asked: uniformly within the budget, as far as the caller knows it."""

Allowed = Callable[[Arch], bool]
"""Whether an arch may be asked: within the budget, as far as the caller can predict."""


class Searcher(Protocol):
    """Proposes archs and learns from finished trials; the same seed proposes the same archs."""

    def ask(self) -> Arch:
        """Return the arch to try next."""

    def tell(self, trial: Trial) -> None:
        """Learn from a finished trial; one that failed or broke the budget counts as the worst."""


def values(trial: Trial, objectives: Sequence[str]) -> tuple[float, ...]:
    """Return a trial's figures of these names; all infinite where it failed or one is missing or NaN."""
    found = tuple(trial.figures.get(objective, math.nan) for objective in objectives)
    usable = trial.valid and not any(map(math.isnan, found))
    return found if usable else (math.inf,) * len(objectives)


def fresh(draw: Draw, asked: Container[Arch], rng: Random, retries: int = 20) -> Arch:
    """Draw an arch that was not asked, or after so many repeats a repeated one."""
    arch = draw(rng)
    for _ in range(retries):
        if arch not in asked:
            break
        arch = draw(rng)
    return arch
