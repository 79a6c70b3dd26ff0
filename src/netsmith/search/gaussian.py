"""A Gaussian process over the codes of archs: what a figure may be, and how sure that is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
REFIT = 1.3  # the kernel is fitted anew whenever there are so many times as many trials


class GaussianFigure:
    """One figure as a Gaussian process of its normal score, with one length for all features of a code.

    The score of a figure is what the normal distribution has at its rank among those known (Snelson et al.
    2004 warp alike): so few archs that learn nothing do not hide what sets the good ones apart, and one that
    failed is simply the last. For a few hundred trials this needs no network and tells its own uncertainty.
    """

    def __init__(self, seed: int) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(2.0, (0.3, 30.0)) + WhiteKernel(1e-2, (1e-5, 1.0))
        self._model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
        self._fitted_at = 0
        self._figures = self._scores = np.empty(0)

    def fit(self, codes: Numbers, figures: Sequence[float]) -> None:
        """Learn the figures of ``codes`` (N, F); infinite those of trials that failed."""
        known = np.asarray(figures, float)
        scores = normal_scores(known)
        distinct, first = np.unique(known, return_index=True)
        usable = np.isfinite(distinct)
        self._figures, self._scores = distinct[usable], scores[first][usable]
        if len(known) >= REFIT * self._fitted_at:
            self._fitted_at = len(known)
        else:
            self._model.set_params(optimizer=None, kernel=self._model.kernel_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a length at its bound, or a fit that ended early
            self._model.fit(codes, scores)
        self._model.set_params(optimizer="fmin_l_bfgs_b")

    def predict(self, codes: Numbers) -> tuple[Numbers, Numbers]:
        """Return mean and standard deviation of the score at ``codes`` (N, F), (N,) each."""
        mean, sd = self._model.predict(codes, return_std=True)
        return mean, sd

    def figures(self, scores: Numbers) -> Numbers:
        """Return the figures of these scores (N,): between those known, and beyond the best in a line.

        The line is that through the best and what is a tenth of the way from it. Needs one finite figure.
        """
        best, tenth = 0, math.ceil(len(self._figures) / 10)
        found: Numbers = np.interp(scores, self._scores, self._figures)
        if tenth < len(self._figures):
            rise = self._figures[tenth] - self._figures[best]
            slope = rise / (self._scores[tenth] - self._scores[best])
            found += np.minimum(scores - self._scores[best], 0.0) * slope
        return found


def normal_scores(figures: Numbers) -> Numbers:
    """Return the normal distribution's quantile at the rank of each figure (N,); equal ones share a rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Numbers = ndtri((rankdata(figures) - 0.5) / len(figures))
    return scores
