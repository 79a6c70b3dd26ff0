"""What every searcher is: an ask/tell strategy that sees spaces and trials alone."""

from __future__ import annotations

from collections.abc import Callable
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
