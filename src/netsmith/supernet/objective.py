"""How latency enters the search: the expectation over paths, the published losses, the multiplier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from netsmith.costs import bent


@dataclass(frozen=True)
class PathCosts:
    """:class:`netsmith.costs.Costs` as a table: milliseconds of a device, or what is counted.

    ``options`` is (edges, options), padded with zeros.
    """

    constant: float
    options: torch.Tensor
    bend: float = 0.0

    @classmethod
    def of(cls, constant: float, edges: Sequence[Sequence[float]], bend: float = 0.0) -> PathCosts:
        """Build from rows of different lengths."""
        table = torch.zeros(len(edges), max(map(len, edges)))
        for row, costs in zip(table, edges, strict=True):
            row[: len(costs)] = torch.tensor(costs)
        return cls(constant, table, bend)

    def of_choices(self, choices: Sequence[int]) -> float:
        """Return the cost of one arch."""
        summed = float(self.options.gather(1, torch.tensor(choices)[:, None]).sum())
        return bent(self.constant + summed, self.bend)

    def expected(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return E[cost] over independent edges, a scalar: exact, and differentiable.

        Without a bend it is the constant + the sum over edges and candidates of p * cost (equation 2), and
        its gradient with respect to p_j the cost of candidate j. With one it is E[S] + bend * E[S^2] of the
        sum S.
        """
        means = (probabilities * self.options).sum(1)
        mean = self.constant + means.sum()
        if not self.bend:
            return mean
        variance = (probabilities * self.options**2).sum() - (means**2).sum()
        return mean + self.bend * (mean**2 + variance)

    def among(self, candidates: torch.Tensor) -> PathCosts:
        """Return the costs of some candidates of each edge, by their places (edges, some)."""
        return replace(self, options=self.options.gather(1, candidates))


def add_linear(
    cross_entropy: torch.Tensor, expected: torch.Tensor, target: float, weight: float
) -> torch.Tensor:
    """CE + weight * (E - T) / T, the release's ``add#linear`` (its weight: 0.1)."""
    return cross_entropy + weight * (expected - target) / target


def mul_log(
    cross_entropy: torch.Tensor,
    expected: torch.Tensor,
    target: float,
    alpha: float = 0.2,
    beta: float = 0.3,
) -> torch.Tensor:
    """alpha * CE * (ln E / ln T)^beta, the release's default ``mul#log``.

    The published form has milliseconds well above 1 in mind. Logarithms of values near or under 1 change
    sign, so E and T are first counted in thousandths of T, which leaves the form as it is and makes it
    the same for any unit.
    """
    scale = 1000 / target
    return alpha * cross_entropy * ((expected * scale).log() / math.log(1000)) ** beta


def reward(accuracy: float, cost: float, target: float, exponent: float = -0.1) -> float:
    """ACC * (LAT / T)^w, the reward of the REINFORCE search (equation 5; the release's w is -0.1)."""
    return accuracy * math.exp(exponent * math.log(cost / target))


class Multiplier:
    """A Lagrange multiplier that moves until the expected cost is the target.

    An integral part rises while E is above T and falls while below; a proportional part, as in an
    augmented Lagrangian, damps the swing around T. Both in log space, so that no scale of the loss needs
    tuning: ``integral *= exp(rate * (E / T - 1))``, ``value = integral * exp(gain * (E / T - 1))``.
    """

    LIMITS = (1e-3, 1e2)

    def __init__(self, value: float = 0.1, rate: float = 0.1, gain: float = 10.0) -> None:
        self.integral, self.value = value, value
        self.rate, self.gain = rate, gain

    def update(self, expected: float, target: float) -> float:
        """Move by one step and return the new value."""
        excess = max(-0.5, min(0.5, expected / target - 1))
        low, high = self.LIMITS
        self.integral = max(low, min(high, self.integral * math.exp(self.rate * excess)))
        self.value = self.integral * math.exp(self.gain * excess)
        return self.value
