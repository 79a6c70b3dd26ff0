"""The moving average of a module's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


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
