"""The updates of ProxylessNAS (Cai, Zhu, Han: ICLR 2019), one function each.

A weight step trains the weights along one sampled path. An architecture step moves the path
probabilities by the gradient through two binary gates (section 3.2) or by REINFORCE (section 3.3.2), on
validation data, weights frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from netsmith.arch import Arch
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.paths import Paths
from netsmith.supernet.supernet import Supernet

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (N, classes), labels (N,)) -> scalar."""

LatencyLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(cross entropy, expected latency in ms) -> scalar objective of the architecture parameters."""


def weight_step(
    supernet: Supernet,
    arch: Arch,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    loss: Loss = F.cross_entropy,
) -> float:
    """Train the weights along the path of ``arch`` by one batch; return the loss.

    Gradients are set to None first, so that paths which were not sampled get neither momentum nor decay.
    """
    optimizer.zero_grad(set_to_none=True)
    value = loss(supernet(x, arch), y)
    torch.autograd.backward(value)
    optimizer.step()
    return float(value.detach())


@contextmanager
def frozen(supernet: Supernet) -> Iterator[None]:
    """Hold the weights fixed, so that backward computes and saves for activations alone."""
    learned = [p for p in supernet.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def binary_gates(paths: Paths, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gates (edges, 2) of sampled ``pairs`` (edges, 2) and their probabilities (edges, 2).

    The probabilities are renormalised over the two. The gates are (1, 0) in value; their gradient passes
    to the probabilities as it is, so that dL/dalpha_i = sum_j dL/dg_j * p_j * (delta_ij - p_i), equation 4.
    """
    p = paths.alpha.gather(1, pairs).softmax(1)
    hard = torch.zeros_like(p)
    hard[:, 0] = 1
    return hard + (p - p.detach()), p


def gradient_step(
    supernet: Supernet,
    paths: Paths,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    costs: PathCosts,
    objective: LatencyLoss,
    generator: torch.Generator,
) -> float:
    """Move alpha by the gradient through two sampled paths; return the cross entropy.

    The expected latency is over the two sampled candidates too, with their probabilities renormalised
    (as in the release), so that both terms weigh the same two paths. Afterwards both alphas are
    shifted alike so that the probabilities of paths that were not sampled stay as they were (section
    3.2.1).
    """
    active, other, pairs = paths.sample_pair(generator)
    optimizer.zero_grad(set_to_none=True)
    gates, p = binary_gates(paths, pairs)
    with frozen(supernet):
        cross_entropy = F.cross_entropy(supernet.gated(x, active, other, gates), y)
        # An edge with one candidate left has it twice in its pair: p sums to one either way.
        expected = costs.among(pairs).expected(p)
        torch.autograd.backward(objective(cross_entropy, expected))
    mass = paths.alpha.detach().gather(1, pairs).logsumexp(1, keepdim=True)
    optimizer.step()
    with torch.no_grad():
        drawn = paths.alpha.gather(1, pairs)
        shift = drawn.logsumexp(1, keepdim=True) - mass
        paths.alpha.scatter_(1, pairs, drawn - shift)
    return float(cross_entropy.detach())


class Reinforce:
    """The policy-gradient update: E[R] without a backward pass through the weights (section 3.3.2)."""

    def __init__(self, samples: int = 10, baseline_rate: float = 0.99) -> None:
        self.samples, self.baseline_rate = samples, baseline_rate
        self.baseline: float | None = None

    def step(
        self,
        supernet: Supernet,
        paths: Paths,
        optimizer: torch.optim.Optimizer,
        x: torch.Tensor,
        y: torch.Tensor,
        reward: Callable[[Arch, float], float],
        generator: torch.Generator,
    ) -> float:
        """Move alpha by ``samples`` archs on one batch; return their mean accuracy (0..1).

        ``reward(arch, accuracy)`` is what to raise. The gradient of log p is weighted by the reward over
        a moving baseline; log p is summed over edges.
        """
        archs = [paths.sample(generator) for _ in range(self.samples)]
        logits = supernet.forward_many(x, archs)
        accuracies = [float((out.argmax(1) == y).float().mean()) for out in logits]
        rewards = [reward(arch, acc) for arch, acc in zip(archs, accuracies, strict=True)]
        mean = sum(rewards) / len(rewards)
        if self.baseline is None:
            self.baseline = mean
        self.baseline += self.baseline_rate * (mean - self.baseline)
        optimizer.zero_grad(set_to_none=True)
        terms = [
            -(value - self.baseline) * paths.log_probability(arch)
            for arch, value in zip(archs, rewards, strict=True)
        ]
        torch.autograd.backward(torch.stack(terms).mean())
        optimizer.step()
        return sum(accuracies) / len(accuracies)
