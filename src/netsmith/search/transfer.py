"""The error of an arch at some precisions, learned from many archs at full precision and few at others.

After APQ (Wang et al. 2020, section 3.2): pairs of an arch and its accuracy at full precision are cheap,
since a supernet gives them without training; those of a quantised one are not. What the many teach is kept,
and the few only have to teach what precisions change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netsmith.search.gaussian import GaussianFigure, Numbers


class TransferredFigure:
    """A figure of archs at precisions: that at full precision, and a change that adds up over precisions.

    The first is a Gaussian process over the codes of archs (N, F); the second Bayesian ridge regression over
    the precisions (N, P), in 0..1, of what changed, which tells strong effects from noise by itself. The
    paper carries the weights of a neural predictor over instead, with thousands of pairs to learn from.
    """

    def __init__(self, seed: int) -> None:
        from sklearn.linear_model import BayesianRidge

        self._whole, self._change = GaussianFigure(seed), BayesianRidge()

    def fit_whole(self, codes: Numbers, figures: Sequence[float]) -> None:
        """Learn the figures at full precision of ``codes`` (N, F)."""
        self._whole.fit(codes, figures)

    def fit_change(self, precisions: Numbers, whole: Sequence[float], figures: Sequence[float]) -> None:
        """Learn from archs of which both are known, at full precision and at ``precisions`` (N, P)."""
        self._change.fit(precisions, np.asarray(figures, float) - np.asarray(whole, float))

    def predict(self, codes: Numbers, precisions: Numbers) -> Numbers:
        """Return the expected figures (N,) of ``codes`` (N, F) at ``precisions`` (N, P)."""
        change: Numbers = self._change.predict(precisions)
        return self._whole.figures(self._whole.predict(codes)[0]) + change
