"""Random search: the baseline that every searcher must beat."""

from __future__ import annotations

from random import Random

from netsmith.arch import Arch
from netsmith.search.searcher import Draw
from netsmith.trial import Trial


class RandomSearch:
    """Asks for one independent draw after another, and no arch twice while there are others."""

    RETRIES = 20

    def __init__(self, draw: Draw, seed: int) -> None:
        self._draw = draw
        self._rng = Random(seed)
        self._asked: set[Arch] = set()

    def ask(self) -> Arch:
        """Return a draw that was not asked before, or after ``RETRIES`` repeats a repeated one."""
        arch = self._draw(self._rng)
        for _ in range(self.RETRIES):
            if arch not in self._asked:
                break
            arch = self._draw(self._rng)
        self._asked.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Nothing is learned."""
