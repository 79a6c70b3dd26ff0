"""What a training step minimises and with what: the loss, the optimizer, the average of the weights."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.train.recipe import Recipe


def objective(
    logits: torch.Tensor, target: torch.Tensor, recipe: Recipe, teacher_logits: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean loss of a batch: (N, classes) logits against (N,) labels or (N, classes) shares.

    Cross-entropy with label smoothing (Szegedy et al. 2016, section 7). Where a teacher's (N, classes) logits
    are given: ``(1 - w) CE + w T^2 KL(teacher || module)`` at temperature T (Hinton et al. 2015, section 2).
    """
    loss = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)
    if teacher_logits is None:
        return loss
    temperature = recipe.temperature
    divergence = F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.log_softmax(teacher_logits / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - recipe.distillation) * loss + recipe.distillation * temperature**2 * divergence


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer, with weight decay on matrices and filters only.

    Norms and biases, which have one dimension, set the scale and the place of features; pulling them to zero
    only hurts (He et al. 2019, section 3.1).
    """
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, recipe.lr)


class Average:
    """The exponential moving average of a module's weights and buffers, itself a module to evaluate.

    After step t, counted from 0, the average moves by ``1 - d`` towards the weights, with
    ``d = min(decay, (1 + t) / (10 + t))``: early weights are soon forgotten. With ``decay`` 0 it is a copy,
    made by :meth:`finish`.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights of ``module`` after ``step``."""
        if self.decay == 0:
            return
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        mine, theirs = [], []
        for old, new in zip(_tensors(self.module), _tensors(module), strict=True):
            if old.is_floating_point():
                mine.append(old)
                theirs.append(new.detach())
            else:
                old.copy_(new)  # a counter has no average
        torch._foreach_lerp_(mine, theirs, share)

    def finish(self, module: nn.Module) -> None:
        """Make the average fit to evaluate: where there is no decay, copy ``module``."""
        if self.decay == 0:
            self.module.load_state_dict(module.state_dict())


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
