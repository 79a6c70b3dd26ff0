"""What a training step minimises, and with what: the loss and the optimizer."""

from __future__ import annotations

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
