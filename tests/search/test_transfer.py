"""What many archs teach at full precision is not learned again from the few at others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from netsmith.search.gaussian import GaussianFigure
from netsmith.search.transfer import TransferredFigure

ARCHS, PARTS, MANY, FEW = 24, 6, 200, 14


def planted(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, precisions, figures at full precision and at those: some features and parts matter more."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    weights, loss = fixed.normal(size=ARCHS), fixed.exponential(0.3, PARTS)
    codes = rng.integers(0, 2, (count, ARCHS)).astype(float)
    precisions = rng.integers(0, 2, (count, PARTS)).astype(float)
    score = codes @ weights + 0.5 * codes[:, 0] * codes[:, 1]
    whole = 0.1 + 0.2 / (1 + np.exp(-score / 2))
    figures = whole + 0.1 * (1 - precisions) @ loss + rng.normal(0, 0.003, count)
    return codes, precisions, whole, figures


@pytest.fixture(scope="module")
def ranks() -> dict[str, float]:
    """The rank correlation, on archs of a test of its own, of what was learned in three ways."""
    codes, precisions, whole, figures = planted(0, MANY)
    unseen = planted(1, 300)
    transferred = TransferredFigure(0)
    transferred.fit_whole(codes, whole.tolist())
    transferred.fit_change(precisions[:FEW], whole[:FEW].tolist(), figures[:FEW].tolist())
    found = {"transferred": transferred.predict(unseen[0], unseen[1])}
    for count in (FEW, 5 * FEW):
        alone = GaussianFigure(0)
        alone.fit(np.hstack([codes, precisions])[:count], figures[:count].tolist())
        found[f"alone {count}"] = alone.predict(np.hstack([unseen[0], unseen[1]]))[0]
    return {name: float(spearmanr(values, unseen[3])[0]) for name, values in found.items()}


def test_few_samples_are_enough_where_many_whole_archs_are_known(ranks: dict[str, float]) -> None:
    assert ranks["transferred"] > 0.9
    assert ranks["transferred"] > ranks[f"alone {FEW}"] + 0.2


def test_learned_from_nothing_five_times_the_samples_tell_less(ranks: dict[str, float]) -> None:
    assert ranks["transferred"] > ranks[f"alone {5 * FEW}"]


def test_figures_come_back_in_their_own_unit() -> None:
    codes, precisions, whole, figures = planted(2, MANY)
    model = TransferredFigure(0)
    model.fit_whole(codes, whole.tolist())
    model.fit_change(precisions[:40], whole[:40].tolist(), figures[:40].tolist())
    assert np.abs(model.predict(codes, precisions) - figures).mean() < 0.01
