"""Search by a surrogate: a Gaussian process over archs proposes what may yet be better.

Bayesian optimisation as in BANANAS (White et al. 2021), whose parts are a surrogate, candidates by mutation
of the best and Thompson sampling; the surrogate here is a Gaussian process on the archs' codes, which for so
few trials needs no network and tells its own uncertainty.
"""

from __future__ import annotations

import math
import warnings
from random import Random

import numpy as np

from netsmith.arch import Arch
from netsmith.search.searcher import Allowed, Draw
from netsmith.spaces.space import Space
from netsmith.trial import Trial

FIRST = 20
CANDIDATES = 200
PARENTS = 10
REFIT = 1.3  # the kernel is fitted anew whenever there are so many times as many trials


class SurrogateSearch:
    """Asks for ``FIRST`` draws, then for the candidate of which a sample of the surrogate expects most.

    Candidates are mutants and neighbours of the best trials, and draws, none asked before. A trial that
    failed counts as bad as the worst. ``objective`` names the figure to minimise.
    """

    def __init__(
        self,
        space: Space,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        objective: str = "error",
    ) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        self._space, self._draw, self._allowed, self._objective = space, draw, allowed, objective
        self._rng, self._noise = Random(seed), np.random.default_rng(seed)
        self._asked: set[Arch] = set()
        self._trials: list[Trial] = []
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(2.0, (0.3, 30.0)) + WhiteKernel(1e-2, (1e-5, 1.0))
        self._model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
        self._fitted_at = 0

    def ask(self) -> Arch:
        """Return a draw at first, then the most promising candidate."""
        candidates = [] if len(self._trials) < FIRST else self._candidates()
        arch = self._fresh() if not candidates else self._promising(candidates)
        self._asked.add(arch)
        return arch

    def tell(self, trial: Trial) -> None:
        """Learn from the trial."""
        self._trials.append(trial)

    def _fresh(self) -> Arch:
        for _ in range(20):
            arch = self._draw(self._rng)
            if arch not in self._asked:
                return arch
        return arch

    def _candidates(self) -> list[Arch]:
        best = sorted(self._trials, key=self._value)[:PARENTS]
        found = dict.fromkeys(arch for trial in best[:3] for arch in self._space.neighbours(trial.arch))
        for _ in range(CANDIDATES):
            found[self._space.mutate(self._rng.choice(best).arch, self._rng)] = None
            found[self._draw(self._rng)] = None
        return [arch for arch in found if arch not in self._asked and self._allowed(arch)]

    def _promising(self, candidates: list[Arch]) -> Arch:
        """Return the least of one sample of the posterior, each candidate sampled on its own."""
        known = [self._value(trial) for trial in self._trials]
        worst = max((value for value in known if math.isfinite(value)), default=0.0)
        values = np.array([value if math.isfinite(value) else worst for value in known])
        codes = np.array([self._space.encode(trial.arch) for trial in self._trials])
        refit = len(values) >= REFIT * self._fitted_at
        if refit:
            self._fitted_at = len(values)
        else:
            self._model.set_params(optimizer=None, kernel=self._model.kernel_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a length at its bound, or a fit that ended early
            self._model.fit(codes, np.log(np.maximum(values, 1e-6)))
        self._model.set_params(optimizer="fmin_l_bfgs_b")
        mean, sd = self._model.predict(
            np.array([self._space.encode(arch) for arch in candidates]), return_std=True
        )
        return candidates[int(np.argmin(mean + sd * self._noise.standard_normal(len(mean))))]

    def _value(self, trial: Trial) -> float:
        return trial.figures.get(self._objective, math.inf) if trial.valid else math.inf
