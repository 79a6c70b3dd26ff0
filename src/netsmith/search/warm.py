"""Warm starts: draws that a score without training already finds good."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from netsmith.arch import Arch
from netsmith.search.searcher import Draw

Score = Callable[[Arch], float]
"""What is known of an arch before it is trained, such as its parameters: the greater the better."""


def best_drawn(draw: Draw, score: Score, pool: int) -> Draw:
    """Return a draw that is the best scored of ``pool`` draws, the first among equals.

    A score is a hint and no judge: it says where a searcher starts, and trials where it goes. A pool of 1 is
    ``draw`` itself; the larger it is, the more the score is trusted.
    """

    def drawn(rng: Random) -> Arch:
        return max((draw(rng) for _ in range(pool)), key=score)

    return drawn
