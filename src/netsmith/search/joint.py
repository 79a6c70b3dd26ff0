"""The search of APQ (Wang et al. 2020): a predictor carried over to precisions, and evolution that asks it.

What is judged and measured comes as functions; costs are predicted by what the caller knows of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.search.evolution import Evolution
from netsmith.search.searcher import fresh
from netsmith.search.transfer import TransferredFigure
from netsmith.spaces.joint import JointSpace
from netsmith.trial import Trial

POPULATION, TOURNAMENT = 64, 16
# What is far under the limits is passed over: an arch that a supernet judges looks better than it is where it
# is small, and what the limits allow pays after training.
LEAST_USE = 0.85


class Costs(Protocol):
    """What archs should cost, as the greatest share of a limit."""

    def share(self, arch: Arch) -> float:
        """Return the share; over 1 a limit should be broken."""

    def draw(self, rng: Random) -> Arch:
        """Draw an arch within the limits, using up as much of them as it can."""

    def learn(self, trials: Sequence[Trial]) -> None:
        """Correct the shares by what was measured."""


@dataclass(frozen=True)
class Effort:
    """How many archs are judged at full precision, and how many files are measured.

    ``few`` are measured first; then ``rounds`` times as many as ``best`` of those that the predictor
    expects least error of, among ``asked`` that evolution asks for, no two of one chain.
    """

    many: int
    few: int
    rounds: int
    best: int
    asked: int = 1500


def search_joint(
    space: JointSpace,
    costs: Costs,
    whole_error: Callable[[Arch], float],
    measure: Callable[[Arch], Trial],
    effort: Effort,
    seed: int,
) -> list[Trial]:
    """Return the trials of all files that were measured, in turn.

    ``whole_error`` gives the error at full precision of an arch of the chain; ``measure`` the trial of one of
    ``space``, whose figure ``error`` is that of its file. Raises :class:`BudgetError` where no arch should
    keep the limits before anything is measured.
    """
    rng = Random(seed)
    drawn: dict[Arch, None] = {}
    for _ in range(effort.many):
        drawn[fresh(costs.draw, drawn, rng)] = None
    whole = {arch: whole_error(arch) for arch in dict.fromkeys(map(space.whole, drawn))}
    trials = [measure(arch) for arch in list(drawn)[: effort.few]]
    for number in range(effort.rounds):
        costs.learn(trials)
        expected = _expected(space, whole, trials, seed)
        known = {trial.arch for trial in trials}
        try:
            asked = _evolved(space, costs, expected, effort.asked, seed * 1009 + number)
        except BudgetError:  # by what was measured no arch keeps the limits
            break
        best = _apart(space, [arch for arch in asked if arch not in known], effort.best)
        whole |= {arch: whole_error(arch) for arch in map(space.whole, best) if arch not in whole}
        trials += [measure(arch) for arch in best]
    return trials


def _apart(space: JointSpace, archs: Iterable[Arch], most: int) -> list[Arch]:
    """Return the first archs of which no two have one chain: precisions alone change less than it does."""
    first: dict[Arch, Arch] = {}
    for arch in archs:
        first.setdefault(space.whole(arch), arch)
    return list(first.values())[:most]


def _expected(
    space: JointSpace, whole: dict[Arch, float], trials: Iterable[Trial], seed: int
) -> Callable[[Arch], float]:
    """Return the error that is expected of the file of an arch."""
    figure = TransferredFigure(seed)
    figure.fit_whole(np.array([space.chain.encode(arch) for arch in whole]), list(whole.values()))
    told = [trial for trial in trials if "error" in trial.figures]
    figure.fit_change(
        np.array([space.precisions(trial.arch) for trial in told], float),
        [whole[space.whole(trial.arch)] for trial in told],
        [trial.figures["error"] for trial in told],
    )

    def expected(arch: Arch) -> float:
        codes = np.array([space.chain.encode(space.whole(arch))])
        return float(figure.predict(codes, np.array([space.precisions(arch)], float))[0])

    return expected


def _evolved(
    space: JointSpace, costs: Costs, expected: Callable[[Arch], float], asked: int, seed: int
) -> list[Arch]:
    """Return what evolution asked for within the limits, the least expected error first."""
    least = LEAST_USE

    def draw(rng: Random) -> Arch:
        nonlocal least
        arch = costs.draw(rng)
        least = min(least, costs.share(arch))  # of a space that cannot use its limits up
        return arch

    searcher = Evolution(
        space, draw, seed, allowed=lambda arch: least <= costs.share(arch) <= 1,
        population=POPULATION, tournament=TOURNAMENT,
    )  # fmt: skip
    found: dict[Arch, float] = {}
    for _ in range(asked):
        arch = searcher.ask()
        found[arch] = expected(arch) if arch not in found else found[arch]
        searcher.tell(Trial(arch, {"error": found[arch]}))
    return sorted((arch for arch in found if costs.share(arch) <= 1), key=found.__getitem__)
