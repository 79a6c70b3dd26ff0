"""The surrogate of one figure: scores by rank, back again, and a planted function learnt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from netsmith.search.gaussian import GaussianFigure, normal_scores


def test_scores_are_quantiles_of_ranks_and_equal_figures_share_one() -> None:
    found = normal_scores(np.array([5.0, 1.0, 5.0, math.inf]))
    assert found == pytest.approx(norm.ppf(np.array([2, 0.5, 2, 3.5]) / 4))


def test_any_increasing_scale_gives_the_same_scores() -> None:
    figures = np.random.default_rng(0).random(40)
    assert np.array_equal(normal_scores(figures), normal_scores(np.exp(9 * figures) - 7))


def codes(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (count, 12)).astype(float)


def test_it_orders_what_it_has_not_seen_although_some_failed() -> None:
    x = codes(300)
    figures = (x * np.arange(12)).sum(1) + 10.0
    told = [math.inf if i % 7 == 0 else f for i, f in enumerate(figures[:150])]
    model = GaussianFigure(0)
    model.fit(x[:150], told)
    mean, sd = model.predict(x[150:])
    assert kendalltau(mean, figures[150:])[0] > 0.6
    assert (sd > 0).all()


def test_scores_of_known_figures_lead_back_to_them_and_better_ones_beyond() -> None:
    x = codes(40)
    figures = (x * np.arange(12)).sum(1) - 3.0
    model = GaussianFigure(0)
    model.fit(x, figures.tolist())
    scores = normal_scores(figures)
    assert model.figures(scores) == pytest.approx(figures)
    least, greatest = scores.min(), scores.max()
    assert model.figures(np.array([least - 0.5]))[0] < figures.min()
    assert model.figures(np.array([greatest + 1.0]))[0] == figures.max()


def test_one_known_figure_is_expected_everywhere() -> None:
    model = GaussianFigure(0)
    model.fit(codes(3), [2.0, math.inf, 2.0])
    assert model.figures(np.array([-3.0, 0.0, 3.0])) == pytest.approx(2.0)
