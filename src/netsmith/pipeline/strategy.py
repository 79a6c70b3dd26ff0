"""The strategies that search a trained supernet arch by arch: single path one-shot (Guo et al. 2020).

The supernet is trained alone, on paths that take about the budget; then a searcher asks for archs, each of
which is judged with its weights. ProxylessNAS, which moves path probabilities in the training, is not one.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Allowed, Draw, Searcher
from netsmith.search.surrogate import SurrogateSearch
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.derive import OpenPaths
from netsmith.trial import Trial

EVALUATIONS = {"quick": 48, "standard": 128, "thorough": 400}


def _evolution(space: ChainSpace, draw: Draw, seed: int, allowed: Allowed, evaluations: int) -> Searcher:
    population = max(4, evaluations // 4)
    return Evolution(
        space, draw, seed, allowed=allowed, population=population, tournament=max(2, population // 4)
    )


_MAKERS: dict[str, Callable[[ChainSpace, Draw, int, Allowed, int], Searcher]] = {
    "random": lambda space, draw, seed, allowed, evaluations: RandomSearch(draw, seed),
    "evolution": _evolution,
    "local": lambda space, draw, seed, allowed, evaluations: LocalSearch(space, draw, seed, allowed=allowed),
    "surrogate": lambda space, draw, seed, allowed, evaluations: SurrogateSearch(
        space, draw, seed, allowed=allowed
    ),
}


def search_archs(
    strategy: str,
    space: ChainSpace,
    open_paths: OpenPaths,
    score: Callable[[Arch], Trial],
    limits: tuple[float, float],
    evaluations: int,
    seed: int,
    on_trial: Callable[[int, Trial], None] = lambda number, trial: None,
) -> list[Arch]:
    """Return the archs that ``strategy`` had judged in so many evaluations, those of the least error first.

    ``limits`` are the least and the most that an arch may cost; the least is given up where no arch costs
    that much. ``on_trial`` hears of every evaluation, counted from 1. Raises :class:`BudgetError` where no
    open arch costs as little as the most.
    """
    low, high = limits
    try:
        open_paths.draw(Random(seed), high, low)
    except BudgetError:
        low = 0.0

    def draw(rng: Random) -> Arch:
        return open_paths.draw(rng, high, low)

    def allowed(arch: Arch) -> bool:
        return arch in open_paths and low <= open_paths.cost(arch) <= high

    searcher = _MAKERS[strategy](space, draw, seed, allowed, evaluations)
    trials: dict[Arch, Trial] = {}
    for number in range(1, evaluations + 1):
        arch = searcher.ask()
        trials[arch] = score(arch)
        searcher.tell(trials[arch])
        on_trial(number, trials[arch])
    return sorted((a for a, t in trials.items() if t.valid), key=lambda a: trials[a].figures["error"])
