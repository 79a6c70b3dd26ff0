"""What the phases of InstaNAS are made of: an epoch of the weights, and a step of the controller."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.costs import Costs
from netsmith.errors import TrainingError
from netsmith.supernet.instanas import controller_loss, draw, explored, greedy, reward
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.policies import latencies_ms
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.search import Batches

Choose = Callable[[torch.Tensor], torch.Tensor]
"""Images (N, C, H, W) -> policies, booleans (N, edges, operations)."""


class Outcome(NamedTuple):
    """N policies (N, edges, operations), and of each, (N,): a right label or not, latency, reward."""

    policies: torch.Tensor
    correct: torch.Tensor
    latency_ms: torch.Tensor
    reward: torch.Tensor


class Judge(NamedTuple):
    """What tells how good a policy is: the supernet's labels, the costs, and the bounds in milliseconds."""

    supernet: RoutedSupernet
    costs: Costs
    lower_ms: float
    upper_ms: float
    recipe: InstanceRecipe

    @torch.no_grad()
    def __call__(self, x: torch.Tensor, y: torch.Tensor, policies: torch.Tensor) -> Outcome:
        """Run the supernet, as it is at evaluation, on x (N, C, H, W) along ``policies``."""
        self.supernet.eval()
        correct = self.supernet(x, policies).argmax(1) == y
        latency = latencies_ms(self.supernet.space, self.costs, policies)
        recipe = self.recipe
        earned = reward(
            latency, correct, self.lower_ms, self.upper_ms,
            right=recipe.right, wrong=recipe.wrong, exponent=recipe.latency_exponent,
        )  # fmt: skip
        return Outcome(policies, correct, latency, earned)


def controller_step(
    controller: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    judge: Judge,
    generator: torch.Generator,
) -> tuple[Outcome, float]:
    """Move the controller by one batch; return what its greedy policies did, and the mean entropy of p'.

    The baseline is self-critical: what the greedy policy earned on the same image.
    """
    recipe = judge.recipe
    controller.train()
    logits = controller(x)
    drawn = judge(x, y, draw(logits, recipe.exploration, generator))
    best = judge(x, y, greedy(logits.detach()))
    loss = controller_loss(
        logits, drawn.policies, drawn.reward - best.reward, recipe.exploration, recipe.entropy_weight
    )
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    p = explored(logits.detach(), recipe.exploration)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    return best, float(entropy)


def train_weights(
    supernet: RoutedSupernet,
    batches: Batches,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    choose: Choose,
) -> tuple[float, float]:
    """Train the weights for one epoch along the policies that ``choose`` gives; return loss and accuracy.

    The loss is the mean cross-entropy in nats. Raises :class:`TrainingError` where it is not a number.
    Gradients are set to None first, so that operations which no image used get neither momentum nor decay.
    """
    supernet.train()
    images, loss_sum, correct = 0, 0.0, 0
    for step, (x, y) in enumerate(batches.epoch(epoch)):
        logits = supernet(x, choose(x))
        loss = F.cross_entropy(logits, y)
        if not math.isfinite(value := float(loss.detach())):
            raise TrainingError(
                f"the routed supernet's loss is {value} in epoch {epoch}, step {step}; lower the phase's rate"
            )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        images += len(y)
        loss_sum += value * len(y)
        correct += int((logits.detach().argmax(1) == y).sum())
    return loss_sum / images, correct / images
