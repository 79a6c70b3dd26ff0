"""The posterior and the evidence, against the normal distribution written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from netsmith.latency.regression import Networks, Posterior, Prior, most_likely

BLOCKS, KINDS = 7, 3


def networks(number: int = 12, seed: int = 0) -> Networks:
    rng = np.random.default_rng(seed)
    has = rng.integers(0, 3, (number, BLOCKS)) * rng.uniform(0.1, 1.0, BLOCKS)
    kinds = np.eye(KINDS)[rng.integers(0, KINDS, BLOCKS)]
    measured = has.sum(1) * rng.uniform(0.9, 1.3, number) + 0.2
    return Networks(has, rng.uniform(1e4, 1e6, number), measured, kinds)


def by_hand(known: Networks, prior: Prior, alone: np.ndarray, weights: np.ndarray):
    """The covariance of sums of networks, as the model is written down, and their mean before any data."""
    bend = prior.bend / known.measured_ms.mean()
    straight = known.measured_ms if not bend else (np.sqrt(1 + 4 * bend * known.measured_ms) - 1) / (2 * bend)
    scale, unit = np.median(straight / known.alone_ms.sum(1)), straight.mean()
    megabytes = weights / known.weight_bytes.mean()
    kinds = alone @ known.kinds
    covariance = (
        unit**2
        + scale**2 * np.outer(alone.sum(1), alone.sum(1))
        + (prior.per_byte * unit) ** 2 * np.outer(megabytes, megabytes)
        + (prior.own * scale) ** 2 * alone @ alone.T
        + (prior.kind * scale) ** 2 * kinds @ kinds.T
    )
    return covariance, scale * alone.sum(1), straight, bend


@pytest.mark.parametrize("prior", [Prior(0.1, 0.0, 0.0, 0.02), Prior(0.1, 0.3, 0.2, 0.01, per_byte=0.0)])
def test_predictions_and_their_spread_are_the_conditional_normal(prior: Prior) -> None:
    known, new = networks(), networks(5, seed=1)
    alone = np.concatenate([known.alone_ms, new.alone_ms])
    weights = np.concatenate([known.weight_bytes, new.weight_bytes])
    covariance, mean, straight, bend = by_hand(known, prior, alone, weights)
    n = len(straight)
    noise = np.diag((prior.noise * known.measured_ms / (1 + 2 * bend * straight)) ** 2)
    gain = covariance[n:, :n] @ np.linalg.inv(covariance[:n, :n] + noise)
    sums = mean[n:] + gain @ (straight - mean[:n])
    variance = np.diag(covariance[n:, n:] - gain @ covariance[:n, n:])

    found = Posterior(known, prior)
    predicted = (
        found.constant_ms + found.per_byte_ms * new.weight_bytes + new.alone_ms @ (found.scale + found.own)
    )
    assert predicted == pytest.approx(sums, rel=1e-6)
    latency = sums + bend * sums**2
    sd = np.sqrt(variance * (1 + 2 * bend * sums) ** 2 + (prior.noise * latency) ** 2)
    assert found.sd_ms(new.alone_ms, new.weight_bytes, latency) == pytest.approx(sd, rel=1e-5)


def test_the_evidence_is_the_density_of_what_was_measured() -> None:
    """Priors compare as the densities of the latencies do, the bend's change of variable included."""
    known, found, true = networks(), [], []
    for prior in (Prior(0.1, 0.1, 0.0, 0.02), Prior(0.1, 0.1, 0.3, 0.02), Prior(0.01, 0.0, 1.0, 0.05)):
        covariance, mean, straight, bend = by_hand(known, prior, known.alone_ms, known.weight_bytes)
        slope = 1 / (1 + 2 * bend * straight)
        noise = np.diag((prior.noise * known.measured_ms * slope) ** 2)
        density = multivariate_normal(mean, covariance + noise).logpdf(straight) + np.log(slope).sum()
        found.append(Posterior(known, prior).log_evidence)
        true.append(density)
    assert np.diff(found) == pytest.approx(np.diff(true), rel=1e-5)


def test_the_prior_that_made_the_data_is_found() -> None:
    rng = np.random.default_rng(3)
    known = networks(60, seed=3)
    total = known.alone_ms.sum(1)
    sums = 0.3 + 1.2 * total
    latency = (sums + 0.3 / 5 * sums**2) * (1 + rng.normal(0, 0.01, len(sums)))
    made = Networks(known.alone_ms, known.weight_bytes, latency, known.kinds)
    priors = [Prior(0.0, 0.0, bend, noise) for bend in (0.0, 0.3, 1.0) for noise in (0.001, 0.01, 0.1)]
    found = most_likely(made, priors)
    assert found.prior.noise == 0.01
    assert found.prior.bend > 0
    assert found.log_evidence == max(Posterior(made, prior).log_evidence for prior in priors)
