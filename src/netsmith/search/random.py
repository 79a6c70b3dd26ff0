"""Random search: the baseline that every searcher must beat."""

from __future__ import annotations

from random import Random

from netsmith.arch import Arch
from netsmith.search.searcher import Draw, fresh
from netsmith.trial import Trial


class RandomSearch:
    """Asks for one independent draw after another, and no arch twice while there are others."""

    def __init__(self, draw: Draw, seed: int) -> None:
        self._draw = draw
        self._rng = Random(seed)
        self._asked: set[Arch] = set()

    def ask(self) -> Arch:
        """Return a draw that was not asked before, while one is found."""
        arch = fresh(self._draw, self._asked, self._rng)
        self._asked.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Nothing is learned."""
