"""The formulas of InstaNAS (Cheng et al. 2018, section 3.3), as its release computes them.

The controller is rewarded for a right label at a latency between two bounds, and moved by REINFORCE against
its own greedy choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from netsmith.costs import Costs, bent
from netsmith.errors import SettingsError
from netsmith.spaces.routed import RoutedSpace

_TINY = 1e-6  # what no probability goes under, so that its logarithm is a number


@dataclass(frozen=True, slots=True)
class Bounds:
    """The latencies in milliseconds between which a policy is rewarded, most of all midway.

    The upper one moves in a line from the first epoch of the search to the last. Raises
    :class:`SettingsError` where it is not above the lower one throughout.
    """

    lower_ms: float
    first_upper_ms: float
    last_upper_ms: float

    def __post_init__(self) -> None:
        if not self.lower_ms < min(self.first_upper_ms, self.last_upper_ms):
            raise SettingsError(
                f"the upper bounds are above the lower one; got {self.first_upper_ms:g} and "
                f"{self.last_upper_ms:g} ms over {self.lower_ms:g} ms. The most is rewarded midway between"
            )

    @classmethod
    def published(cls, space: RoutedSpace, costs: Costs) -> Bounds:
        """Return the release's: from the least to 0.7 of all operations, at last to 0.5 of the first ones.

        The least is the last operation of each edge that must not be skipped. The shares are of the
        operations' own sum, as there, to which comes the constant: the parabola moves with its bounds.
        """
        least = sum(row[-1] for row, skips in zip(costs.edges, space.skippable, strict=True) if not skips)
        sums = least, 0.7 * sum(map(sum, costs.edges)), 0.5 * sum(row[0] for row in costs.edges)
        return cls(*(bent(costs.constant + each, costs.bend) for each in sums))

    def upper_ms(self, epoch: int, epochs: int) -> float:
        """Return the upper bound of ``epoch``, counted from 0, of ``epochs``."""
        progress = epoch / max(1, epochs - 1)
        return self.first_upper_ms + progress * (self.last_upper_ms - self.first_upper_ms)


def reward(
    latency_ms: torch.Tensor,
    correct: torch.Tensor,
    lower_ms: float,
    upper_ms: float,
    *,
    right: float = 30.0,
    wrong: float = 0.0,
    exponent: float = 1.0,
) -> torch.Tensor:
    """Return the reward (N,) of policies of ``latency_ms`` (N,) whose label was ``correct`` (N,) or not.

    r = max(0, -(L - ub)(L - lb) / ((ub - lb)^2 / 4)), which is 1 midway between the bounds and 0 from them
    on; ``right * r^exponent`` for a right label, ``wrong`` for a wrong one.
    """
    height = (upper_ms - lower_ms) ** 2 / 4
    parabola = (-(latency_ms - upper_ms) * (latency_ms - lower_ms) / height).clamp_min(0)
    return torch.where(correct, right * parabola**exponent, wrong)


def explored(logits: torch.Tensor, exploration: float) -> torch.Tensor:
    """Return p' = alpha p + (1 - alpha)(1 - p), with p the logistic function of ``logits``."""
    p = logits.sigmoid()
    return (exploration * p + (1 - exploration) * (1 - p)).clamp(_TINY, 1 - _TINY)


def draw(logits: torch.Tensor, exploration: float, generator: torch.Generator) -> torch.Tensor:
    """Draw policies, booleans of the shape of ``logits`` (N, edges, operations), from p'."""
    p = explored(logits.detach(), exploration)
    return (torch.rand(p.shape, generator=generator) < p.cpu()).to(p.device)


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Return the policies of all operations whose p is 0.5 or more."""
    return logits >= 0


def controller_loss(
    logits: torch.Tensor,
    policies: torch.Tensor,
    advantages: torch.Tensor,
    exploration: float,
    entropy_weight: float,
) -> torch.Tensor:
    """Return [sum of -log pi(policy) * advantage - weight * sum of -p' log p'] / N, a scalar.

    ``logits`` and ``policies`` are (N, edges, operations), ``advantages`` (N,) what the policies earned over
    the greedy ones. The entropy term is the release's, of the active side alone: it is largest at p' = 1 / e,
    and thus leans towards few operations.
    """
    p = explored(logits, exploration)
    log_pi = torch.where(policies, p.log(), (1 - p).log())
    entropy = -(p * p.log()).sum()
    total = -(log_pi * advantages[:, None, None]).sum() - entropy_weight * entropy
    return total / len(logits)
