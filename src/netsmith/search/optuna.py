"""Searchers of Optuna (Akiba et al. 2019): NSGA-II and TPE, for spaces of independent decisions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING

from netsmith.arch import Arch
from netsmith.errors import MissingExtraError
from netsmith.search.searcher import Allowed, Draw, Searcher, values
from netsmith.spaces.space import DecisionSpace
from netsmith.trial import Trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


def nsga2(
    space: DecisionSpace,
    draw: Draw,
    seed: int,
    *,
    allowed: Allowed = lambda arch: True,
    objectives: Sequence[str] = ("error",),
    population: int = 30,
) -> Searcher:
    """Return NSGA-II (Deb et al. 2002), whose first generation are draws; Optuna's values for all else.

    A population of 30 needs fewer trials on published tables than Optuna's 50. Raises
    :class:`MissingExtraError` without Optuna.
    """
    _check_installed()
    from optuna.samplers import NSGAIISampler

    sampler = NSGAIISampler(population_size=population, seed=seed)
    return _Asking(sampler, population, space, draw, seed, allowed, tuple(objectives))


def tpe(
    space: DecisionSpace,
    draw: Draw,
    seed: int,
    *,
    allowed: Allowed = lambda arch: True,
    objectives: Sequence[str] = ("error",),
    first: int = 20,
) -> Searcher:
    """Return TPE (Bergstra et al. 2011; Ozaki et al. 2022 of several objectives) after ``first`` draws.

    Its densities are of each decision by itself, Optuna's way unless told otherwise. Raises
    :class:`MissingExtraError` without Optuna.
    """
    _check_installed()
    from optuna.samplers import TPESampler

    sampler = TPESampler(n_startup_trials=first, seed=seed)
    return _Asking(sampler, first, space, draw, seed, allowed, tuple(objectives))


class _Asking:
    """Asks a study in memory, whose parameters are the decisions, each one of its options without an order.

    The first ``first`` asks are draws. A proposal that is not ``allowed`` is told to the study as failed and
    it is asked again, ``RETRIES`` times at most; then a draw takes the place.
    """

    RETRIES = 10

    def __init__(
        self,
        sampler: BaseSampler,
        first: int,
        space: DecisionSpace,
        draw: Draw,
        seed: int,
        allowed: Allowed,
        objectives: tuple[str, ...],
    ) -> None:
        from optuna.distributions import CategoricalDistribution

        self._space, self._draw, self._allowed = space, draw, allowed
        self._objectives, self._first, self._asked = objectives, first, 0
        self._rng = Random(seed)
        self._decisions: dict[str, BaseDistribution] = {
            str(i): CategoricalDistribution(options) for i, options in enumerate(space.options)
        }
        self._study = _quiet_study(sampler, len(objectives))
        self._under_way: dict[Arch, list[int]] = {}

    def ask(self) -> Arch:
        """Return a draw at first, then what the study proposes."""
        self._asked += 1
        for _ in range(self.RETRIES if self._asked > self._first else 0):
            arch, number = self._proposed()
            if self._allowed(arch):
                break
            self._tell(number, None)
        else:
            drawn = self._draw(self._rng)
            self._study.enqueue_trial(self._parameters(drawn))
            arch, number = self._proposed()
        self._under_way.setdefault(arch, []).append(number)
        return arch

    def tell(self, trial: Trial) -> None:
        """Tell the study the figures; infinite ones of a trial that failed."""
        found = values(trial, self._objectives)
        if waiting := self._under_way.get(trial.arch):
            self._tell(waiting.pop(0), found)
        else:
            self._add(trial.arch, found)

    def _proposed(self) -> tuple[Arch, int]:
        trial = self._study.ask(self._decisions)
        return self._space.arch(tuple(trial.params[name] for name in self._decisions)), trial.number

    def _parameters(self, arch: Arch) -> dict[str, int]:
        return dict(zip(self._decisions, arch.choices, strict=True))

    def _tell(self, number: int, found: Sequence[float] | None) -> None:
        from optuna.trial import TrialState

        self._study.tell(number, found, TrialState.FAIL if found is None else TrialState.COMPLETE)

    def _add(self, arch: Arch, found: Sequence[float]) -> None:
        """Tell of an arch that was not asked here."""
        from optuna.trial import create_trial

        parameters = self._parameters(arch)
        self._study.add_trial(create_trial(params=parameters, distributions=self._decisions, values=found))


def _quiet_study(sampler: BaseSampler, objectives: int) -> Study:
    """Return a study that does not print a line for every trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)


def _check_installed() -> None:
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna", "optuna", "searching by NSGA-II or TPE")
