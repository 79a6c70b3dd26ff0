"""One edge of a supernet: every candidate block of a position, called with the index of one.

Two ways to hold the candidates' weights. ``OwnWeights`` is ProxylessNAS as published: each candidate is
a module of its own. ``SharedWeights`` keeps the weights of the largest kernel and expansion and slices
them, as in Once-for-All (Cai et al. 2020, section 3.3): every weight learns in every step, which is what
a short search needs. Batch norms are never shared, since the statistics of candidates differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.blocks import MBConv, build_block
from netsmith.nn.layers import convolve_depthwise
from netsmith.nn.stage import norm_depthwise_norm, takes_stage
from netsmith.plan import Block


class OwnWeights(nn.Module):
    """An edge whose candidates have weights of their own (ProxylessNAS, section 3.1)."""

    def __init__(self, options: Sequence[Block]) -> None:
        super().__init__()
        self.options = tuple(options)
        self.candidates = nn.ModuleDict({str(i): build_block(b) for i, b in enumerate(options)})

    def forward(self, x: torch.Tensor, choice: int) -> torch.Tensor:
        """Run candidate ``choice``: (N, C, H, W) -> (N, out, H / stride, W / stride)."""
        out: torch.Tensor = self.candidates[str(choice)](x)
        return out

    def extract(self, choice: int) -> nn.Module:
        """Return candidate ``choice`` as a module of its own, its weights copied."""
        module = build_block(self.options[choice])
        module.load_state_dict(self.candidates[str(choice)].state_dict())
        return module

    def keep(self, choices: Iterable[int]) -> None:
        """Forget every other candidate: its weights leave memory."""
        for name in set(self.candidates) - {str(choice) for choice in choices}:
            del self.candidates[name]


class SharedWeights(nn.Module):
    """An edge whose MBConv candidates are slices of one: the first channels, the centre of the kernel.

    Options are MBConv blocks and skips. Raises :class:`SpaceError` on any other.
    """

    def __init__(self, options: Sequence[Block]) -> None:
        super().__init__()
        convs = [block for block in options if block.op == "mbconv"]
        if not convs or any(block.op not in ("mbconv", "skip") for block in options):
            raise SpaceError(f"only mbconv and skip can share weights; got {[b.key for b in options]}")
        self.options = tuple(options)
        kernel, hidden = max(b.kernel for b in convs), max(b.hidden for b in convs)
        largest = cast(MBConv, build_block(replace(convs[0], kernel=kernel, hidden=hidden)))
        self.expand = _conv(largest.expand).weight if _expands(max(convs, key=lambda b: b.hidden)) else None
        self.depthwise = largest.depthwise.weight
        self.project = _conv(largest.project).weight
        self.norms = nn.ModuleDict(
            {str(i): _norms(block) for i, block in enumerate(options) if block.op == "mbconv"}
        )

    def forward(self, x: torch.Tensor, choice: int) -> torch.Tensor:
        """Run candidate ``choice``: (N, C, H, W) -> (N, out, H / stride, W / stride)."""
        block = self.options[choice]
        if block.op == "skip":
            return x
        norms = cast(nn.ModuleDict, self.norms[str(choice)])
        expand, depthwise, project = self._slices(block)
        out: torch.Tensor = x if expand is None else F.conv2d(x, expand)
        before = cast(nn.BatchNorm2d, norms["expand"]) if expand is not None else None
        after = cast(nn.BatchNorm2d, norms["depthwise"])
        if before is not None and takes_stage(out, before, depthwise, block.stride, after):
            out = norm_depthwise_norm(out, before, depthwise, block.stride, after)
        else:
            out = out if before is None else before(out)
            out = after(convolve_depthwise(out, depthwise, block.stride))
        out = cast(nn.BatchNorm2d, norms["project"])(F.conv2d(out, project))
        return x + out if block.shortcut else out

    def extract(self, choice: int) -> nn.Module:
        """Return candidate ``choice`` as a module of its own, its weights copied."""
        block = self.options[choice]
        module = build_block(block)
        if block.op == "skip":
            return module
        block_module = cast(MBConv, module)
        norms = cast(nn.ModuleDict, self.norms[str(choice)])
        expand, depthwise, project = self._slices(block)
        with torch.no_grad():
            if expand is not None:
                _conv(block_module.expand).weight.copy_(expand)
                _norm(block_module.expand).load_state_dict(norms["expand"].state_dict())
            block_module.depthwise.weight.copy_(depthwise)
            _conv(block_module.project).weight.copy_(project)
        block_module.norm.load_state_dict(norms["depthwise"].state_dict())
        _norm(block_module.project).load_state_dict(norms["project"].state_dict())
        return module

    def keep(self, choices: Iterable[int]) -> None:
        """Forget the batch norms of every other candidate; the weights stay, as they are shared."""
        for name in set(self.norms) - {str(choice) for choice in choices}:
            del self.norms[name]

    def _slices(self, block: Block) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Return the slices of expand, depthwise and project weights that ``block`` uses."""
        margin = (self.depthwise.shape[-1] - block.kernel) // 2
        centre = slice(margin, margin + block.kernel)
        expand = self.expand[: block.hidden] if self.expand is not None and _expands(block) else None
        return (
            expand,
            self.depthwise[: block.hidden, :, centre, centre].contiguous(),
            self.project[:, : block.hidden],
        )


def _expands(block: Block) -> bool:
    return block.hidden != block.in_channels


def _conv(part: nn.Module) -> nn.Conv2d:
    return cast(nn.Conv2d, cast(nn.Sequential, part)[0])


def _norm(part: nn.Module) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, cast(nn.Sequential, part)[1])


def _norms(block: Block) -> nn.ModuleDict:
    """The batch norms of one MBConv candidate."""
    module = cast(MBConv, build_block(block))
    norms: dict[str, nn.Module] = {"depthwise": module.norm, "project": _norm(module.project)}
    if _expands(block):
        norms["expand"] = _norm(module.expand)
    return nn.ModuleDict(norms)
