"""The strategies that have archs judged one by one: a searcher asks, a judge answers, and it learns.

A judge is a supernet that was trained alone (single path one-shot, Guo et al. 2020), or a short training of
each arch. ProxylessNAS, which moves path probabilities in the training of its supernet, is not one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from netsmith.arch import Arch
from netsmith.pipeline.searching.store import Store
from netsmith.pipeline.searching.together import Samples, search_together
from netsmith.search.evolution import Evolution
from netsmith.search.local import LocalSearch
from netsmith.search.optuna import nsga2, tpe
from netsmith.search.progressive import ProgressiveSearch
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Allowed, Draw, Searcher
from netsmith.search.surrogate import SurrogateSearch
from netsmith.spaces.space import GrowingSpace, NamedSpace
from netsmith.spaces.tree import TreeSpace
from netsmith.trial import Trial

Judge = Callable[[Arch], Trial]
LEVELS = 3  # that the progressive search has trials for: the pairs of a cell


@dataclass(frozen=True)
class Hunt:
    """What a strategy searches: archs that ``draw`` may give and that are ``allowed``, for ``objectives``.

    ``trials`` is how many archs will be judged. ``known`` gives the figures of an arch that need no judge.
    """

    space: NamedSpace
    draw: Draw
    allowed: Allowed
    objectives: tuple[str, ...]
    trials: int
    seed: int
    known: Callable[[Arch], Mapping[str, float]]


def _evolution(hunt: Hunt) -> Searcher:
    population = max(4, hunt.trials // 4)
    return Evolution(
        hunt.space, hunt.draw, hunt.seed, allowed=hunt.allowed, objectives=hunt.objectives,
        population=population, tournament=max(2, population // 4),
    )  # fmt: skip


def _progressive(hunt: Hunt) -> Searcher:
    """A norm and a convolution at a time: with a norm alone behind it, a cell is nearly the same network."""
    from netsmith.search.sequence import ForestSurrogate  # loads PyTorch

    space = cast(GrowingSpace, hunt.space)
    surrogate, width = ForestSurrogate(space.vocabulary, hunt.seed), max(3, hunt.trials // LEVELS)
    return ProgressiveSearch(
        space, hunt.seed, surrogate, known=hunt.known, objectives=hunt.objectives,
        width=width, first=width, layers=2, allowed=hunt.allowed,
    )  # fmt: skip


def _controller(hunt: Hunt) -> Searcher:
    """A policy over trees, which learns from as many at a time as a short search can spare."""
    from netsmith.search.tree import BATCH, BEST, TreeController  # loads PyTorch

    share = max(2, hunt.trials // 8)
    return TreeController(
        cast(TreeSpace, hunt.space), hunt.draw, hunt.seed, allowed=hunt.allowed,
        objectives=hunt.objectives, batch=min(BATCH, share), best=min(BEST, share),
    )  # fmt: skip


_MAKERS: dict[str, Callable[[Hunt], Searcher]] = {
    "random": lambda hunt: RandomSearch(hunt.draw, hunt.seed),
    "evolution": _evolution,
    "local": lambda hunt: LocalSearch(
        hunt.space, hunt.draw, hunt.seed, allowed=hunt.allowed, objectives=hunt.objectives
    ),
    "surrogate": lambda hunt: SurrogateSearch(
        hunt.space, hunt.draw, hunt.seed, allowed=hunt.allowed, objectives=hunt.objectives, known=hunt.known
    ),
    "nsga2": lambda hunt: nsga2(
        hunt.space, hunt.draw, hunt.seed, allowed=hunt.allowed, objectives=hunt.objectives,
        population=max(4, hunt.trials // 4),
    ),
    "tpe": lambda hunt: tpe(
        hunt.space, hunt.draw, hunt.seed, allowed=hunt.allowed, objectives=hunt.objectives,
        first=max(4, hunt.trials // 4),
    ),
    "dpp": _progressive,
    "path-level": _controller,
}  # fmt: skip


def run_strategy(
    strategy: str,
    hunt: Hunt,
    judge: Judge,
    store: Store,
    workers: int = 1,
    on_trial: Callable[[int, Trial], None] = lambda number, trial: None,
    samples: Samples = lambda arch: {},
) -> list[Trial]:
    """Return the trials of the archs that ``strategy`` asked for, in their order, each once.

    What the store holds is not judged again; ``workers`` may share it. ``on_trial`` hears of every arch
    asked for, counted from 1. ``samples`` are kept beside the trials that were judged here.
    """
    searcher = _MAKERS[strategy](hunt)
    trials = search_together(
        store, searcher, judge, hunt.trials, ahead=workers, on_trial=on_trial, samples=samples
    )
    return list({trial.arch: trial for trial in trials}.values())
