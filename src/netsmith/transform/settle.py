"""Making a grown network fit to be trained: statistics of what was put in, and outputs that moves changed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.nn.moments import Moments, passes_on

# Of the release: matching the logits of the network that was begun with.
RATE, EPOCHS = 0.02, 30


class Repair(NamedTuple):
    """Mean squared differences of logits from those of the network that was begun with."""

    before: float
    after: float


def settle(module: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Give batch norms that change nothing the statistics of what they see, in place.

    They still change nothing when evaluated, and hardly anything in training, where they take statistics of
    the batch: so the release has it, from ten batches.
    """
    waiting = {norm: Moments() for norm in module.modules() if passes_on(norm)}
    hooks = [
        norm.register_forward_pre_hook(lambda layer, inputs: waiting[layer].add(inputs[0]))
        for norm in waiting
    ]
    try:
        module.eval()
        with torch.no_grad():
            for x in batches:
                module(x)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, moments in waiting.items():
        assert isinstance(norm, nn.BatchNorm2d)
        if moments.count:
            moments.give(norm)


def repair(
    module: nn.Module,
    base: nn.Module,
    batches: Iterable[torch.Tensor],
    *,
    epochs: int = EPOCHS,
    rate: float = RATE,
) -> Repair:
    """Train ``module``, in place, to give the logits of ``base``, where moves could not keep them.

    On images (N, C, H, W) of the training part, all held in memory. Mean squared error, SGD with momentum 0.9
    at ``rate``, brought down along a half cosine. The best of all epochs is kept, which may be none.
    """
    base.eval()
    with torch.no_grad():
        pairs = [(x, base(x)) for x in batches]
    best = first = _difference(module, pairs)
    state = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs))
    for _ in range(epochs):
        module.train()
        for x, expected in pairs:
            optimizer.zero_grad(set_to_none=True)
            loss = F.mse_loss(module(x), expected)
            torch.autograd.backward(loss)
            optimizer.step()
        schedule.step()
        now = _difference(module, pairs)
        if now < best:
            best, state = now, copy.deepcopy(module.state_dict())
    module.load_state_dict(state)
    module.eval()
    return Repair(first, best)


def _difference(module: nn.Module, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    module.eval()
    with torch.no_grad():
        total = sum(float(F.mse_loss(module(x), expected)) * len(x) for x, expected in pairs)
    return total / max(sum(len(x) for x, _ in pairs), 1)
