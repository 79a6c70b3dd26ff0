"""The architecture parameters: a distribution over the candidates of every edge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import PathCosts


class Paths(nn.Module):
    """Independent categorical distributions, p = softmax(alpha) on each edge (ProxylessNAS, section 3.2).

    ``alpha`` is (edges, options), padded to the edge of most options; ``open`` of the same shape marks
    the candidates that exist and were not pruned. All draws take an explicit generator.
    """

    alpha: nn.Parameter
    open: torch.Tensor

    def __init__(self, space: ChainSpace, generator: torch.Generator) -> None:
        super().__init__()
        self.space = space
        sizes = torch.tensor([len(options) for options in space.edges])
        options = int(sizes.max())
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(sizes), options, generator=generator))
        self.register_buffer("open", torch.arange(options) < sizes[:, None])

    @torch.no_grad()
    def aim(self, costs: PathCosts, target: float) -> None:
        """Start from the broadest distribution whose expected cost is ``target``.

        Of all distributions with that expectation, p_j ~ exp(-beta * cost_j) has the greatest entropy; one
        beta for every edge, found by bisection. Where a uniform choice costs no more than the target it is
        left as it is. A uniform start would train weights mostly on archs far over the budget.
        """
        start = self.alpha.clone()

        def expected(beta: float) -> float:
            self.alpha.copy_(start - beta * costs.options)
            return float(costs.expected(self.probabilities()))

        low, high = 0.0, 64.0 / max(float(costs.options.max()), 1e-12)
        if expected(low) <= target:
            return
        for _ in range(60):
            beta = (low + high) / 2
            low, high = (beta, high) if expected(beta) > target else (low, beta)
        expected(high)

    def log_probabilities(self) -> torch.Tensor:
        """Return (edges, options) log p, -inf where there is no candidate."""
        return self.alpha.masked_fill(~self.open, -torch.inf).log_softmax(1)

    def probabilities(self) -> torch.Tensor:
        """Return (edges, options) p; each row sums to 1."""
        return self.log_probabilities().exp()

    def entropy(self) -> float:
        """Return the mean over edges of the entropy in nats, each over that of a uniform choice (0..1)."""
        p = self.probabilities().detach()
        entropy = -(p * p.clamp_min(1e-30).log()).sum(1)
        most = self.open.sum(1).float().log()
        searched = most > 0
        return float((entropy[searched] / most[searched]).mean()) if searched.any() else 0.0

    def sample(self, generator: torch.Generator) -> Arch:
        """Draw one arch from p, every edge on its own."""
        weights = self.probabilities().detach()
        return self._arch(torch.multinomial(weights, 1, generator=generator)[:, 0])

    def sample_pair(self, generator: torch.Generator) -> tuple[Arch, Arch, torch.Tensor]:
        """Draw two candidates of every edge without replacement, and which of the two is active.

        Returns the active arch, the other arch and the pairs (edges, 2) of their option indices. On an
        edge with one open candidate both are that one.
        """
        p = self.probabilities().detach()
        pairs = p.argmax(1, keepdim=True).repeat(1, 2)
        several = self.open.sum(1) > 1
        if several.any():
            # Two can be drawn also where all of p but one has underflowed to nothing.
            weights = (p + 1e-12 * self.open)[several]
            drawn = torch.multinomial(weights, 2, generator=generator)
            # The active one of the two follows p renormalised over them.
            first = torch.multinomial(weights.gather(1, drawn), 1, generator=generator)
            drawn = torch.cat([drawn.gather(1, first), drawn.gather(1, 1 - first)], 1)
            pairs[several] = drawn
        return self._arch(pairs[:, 0]), self._arch(pairs[:, 1]), pairs

    def log_probability(self, arch: Arch) -> torch.Tensor:
        """Return log p of ``arch``, a scalar with gradient: the sum over edges."""
        return self.log_probabilities().gather(1, torch.tensor(arch.choices)[:, None]).sum()

    def most_probable(self) -> Arch:
        """Return the arch of the largest p on every edge."""
        return self._arch(self.log_probabilities().detach().argmax(1))

    @torch.no_grad()
    def prune(self, below: float) -> list[list[int]]:
        """Close every candidate with p under ``below`` but the best; return the open ones of each edge."""
        p = self.probabilities()
        best = torch.nn.functional.one_hot(p.argmax(1), p.shape[1]).bool()
        self.open &= (p >= below) | best
        return [row.nonzero()[:, 0].tolist() for row in self.open]

    def _arch(self, choices: torch.Tensor | Sequence[int]) -> Arch:
        values = choices.tolist() if isinstance(choices, torch.Tensor) else choices
        return Arch(self.space.id, tuple(int(choice) for choice in values))
