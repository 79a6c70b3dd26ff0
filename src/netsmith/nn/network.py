"""Building the module of a plan."""

from __future__ import annotations

import torch
from torch import nn

from netsmith.nn.blocks import build_block
from netsmith.plan import Plan


class Network(nn.Module):
    """The blocks of a plan, one after another: (N, C, H, W) -> (N, classes) logits."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.blocks = nn.Sequential(*(build_block(block) for block in plan.blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.blocks(x)
        return out
