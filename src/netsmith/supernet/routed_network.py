"""A supernet and the controller that routes it, as one module of images: what is deployed."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from netsmith.nn.controller import Controller
from netsmith.supernet.instanas import greedy
from netsmith.supernet.routed import RoutedSupernet


class RoutedNetwork(nn.Module):
    """Each image along the path that the controller chooses for it: (N, C, H, W) -> (N, classes) logits."""

    def __init__(self, supernet: RoutedSupernet, controller: Controller) -> None:
        super().__init__()
        self.supernet, self.controller = supernet, controller

    def train(self, mode: bool = True) -> RoutedNetwork:
        """Have the operations train or not; the controller stays as it is at evaluation."""
        super().train(mode)
        self.controller.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.supernet(x, self.choices(x)))

    @torch.no_grad()
    def choices(self, x: torch.Tensor) -> torch.Tensor:
        """Return the greedy policies (N, edges, operations), booleans."""
        return greedy(self.controller(x))
