"""Bayesian linear regression of whole networks' latencies on their blocks'.

A block alone finds its weights in the cache and pays for handing over its input; in a network neither
holds. So a network is taken to take

    S + bend * S^2,  S = constant + per_byte * bytes + sum over blocks of (scale + own_b + kinds_b) * alone_b

in which ``own_b`` is a block's own departure from the common scale, and ``kinds_b`` the sum of those of its
kinds (its kernel, its expansion, its resolution). All terms have normal priors, so that S has a posterior in
closed form, and so has the likelihood of what was measured, by which the priors' widths are chosen: Rasmussen
and Williams, Gaussian Processes for Machine Learning, chapters 2.1 and 5.4. The bend warps what is measured
(Snelson, Rasmussen and Ghahramani 2004).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of the terms, relative to the common scale, and of a measurement; and the bend.

    ``bend`` is that of the latency times the mean latency. ``per_byte`` 0 leaves weights out.
    """

    own: float
    kind: float
    bend: float
    noise: float
    per_byte: float = 1.0


@dataclass(frozen=True)
class Networks:
    """Networks that were measured whole.

    ``alone_ms`` is (networks, blocks): the latency alone of each block a network has, once for each time it
    has it, 0 where it has it not; ``weight_bytes`` and ``measured_ms`` are (networks,); ``kinds`` is (blocks,
    kinds), 1 where a block is of a kind.
    """

    alone_ms: Array
    weight_bytes: Array
    measured_ms: Array
    kinds: Array


class Posterior:
    """What the networks say of every term under one prior."""

    def __init__(self, networks: Networks, prior: Prior) -> None:
        self._networks, self.prior = networks, prior
        measured, total = networks.measured_ms, networks.alone_ms.sum(1)
        self.bend_per_ms = prior.bend / float(measured.mean())
        straight = 2 * measured / (1 + np.sqrt(1 + 4 * self.bend_per_ms * measured))
        slope = 1 / (1 + 2 * self.bend_per_ms * straight)  # of the sum over the latency
        self._scale = float(np.median(straight / total))
        self._unit = float(straight.mean())
        self._mean_bytes = max(1.0, float(networks.weight_bytes.mean()))
        self._columns = self._of(networks.alone_ms, networks.weight_bytes)
        rest = (straight - self._scale * total) / self._unit
        noise = prior.noise * measured * slope / self._unit
        kernel = self._columns @ self._columns.T + np.diag(noise**2)
        self._lower = np.linalg.cholesky(kernel)
        white = np.linalg.solve(self._lower, rest)
        self._terms = self._columns.T @ np.linalg.solve(self._lower.T, white)
        self.log_evidence = float(
            -0.5 * white @ white - np.log(np.diag(self._lower)).sum() + np.log(slope / self._unit).sum()
        )
        """The log likelihood of the measured latencies, up to a constant."""

    @property
    def constant_ms(self) -> float:
        """The mean of the constant."""
        return self._unit * float(self._terms[0])

    @property
    def scale(self) -> float:
        """The mean of the common scale."""
        return self._scale * (1 + float(self._terms[1]))

    @property
    def per_byte_ms(self) -> float:
        """The mean of the term of the weights."""
        return self.prior.per_byte * self._unit * float(self._terms[2]) / self._mean_bytes

    @property
    def own(self) -> Array:
        """The mean departure of each block from the scale, its kinds' among it, (blocks,)."""
        blocks = self._networks.alone_ms.shape[1]
        own, kinds = self._terms[3 : 3 + blocks], self._terms[3 + blocks :]
        found: Array = self._scale * (self.prior.own * own + self.prior.kind * self._networks.kinds @ kinds)
        return found

    def sd_ms(self, alone_ms: Array, weight_bytes: Array, predicted_ms: Array) -> Array:
        """Return the standard deviation of what measuring networks, (N, blocks), would give, (N,)."""
        columns = self._of(alone_ms, weight_bytes)
        known = np.linalg.solve(self._lower, self._columns @ columns.T)
        variance = np.maximum(0.0, (columns**2).sum(1) - (known**2).sum(0))
        # The slope of the bent latency over the sum, at what is predicted.
        slope = np.sqrt(1 + 4 * self.bend_per_ms * np.maximum(0.0, predicted_ms))
        found: Array = np.hypot(np.sqrt(variance) * self._unit * slope, self.prior.noise * predicted_ms)
        return found

    def _of(self, alone_ms: Array, weight_bytes: Array) -> Array:
        """The columns of networks, (N, 3 + blocks + kinds), each times its prior's width."""
        prior, relative = self.prior, alone_ms * (self._scale / self._unit)
        return np.concatenate(
            [
                np.ones((len(relative), 1)),
                relative.sum(1, keepdims=True),
                prior.per_byte * weight_bytes[:, None] / self._mean_bytes,
                prior.own * relative,
                prior.kind * relative @ self._networks.kinds,
            ],
            1,
        )


def most_likely(networks: Networks, priors: Iterable[Prior]) -> Posterior:
    """Return the posterior under the prior that makes the measured latencies the likeliest."""
    return max((Posterior(networks, prior) for prior in priors), key=lambda found: found.log_evidence)
