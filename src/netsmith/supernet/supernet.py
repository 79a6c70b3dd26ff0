"""The supernet: one module that holds every arch of a chain space; called as ``supernet(x, arch)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, cast

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.nn.blocks import build_block
from netsmith.nn.network import Network
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.edges import OwnWeights, SharedWeights

Weights = Literal["own", "shared"]


class Supernet(nn.Module):
    """The over-parameterised network of a chain space (ProxylessNAS, section 3.1).

    ``weights`` says whether the candidates of an edge have their ``own`` weights or slices of ``shared``
    ones. The arch is an argument of every call, never a state: only its path is computed and held.
    """

    def __init__(self, space: ChainSpace, weights: Weights = "own") -> None:
        super().__init__()
        self.space = space
        edge = OwnWeights if weights == "own" else SharedWeights
        self.stem = nn.Sequential(*(build_block(block) for block in space.stem))
        self.edges = nn.ModuleList(edge(options) for options in space.edges)
        self.head = nn.Sequential(*(build_block(block) for block in space.head))

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Run the path of ``arch``: (N, C, H, W) -> (N, classes) logits."""
        x = self.stem(x)
        for edge, choice in zip(self.edges, arch.choices, strict=True):
            x = edge(x, choice)
        return cast(torch.Tensor, self.head(x))

    def gated(self, x: torch.Tensor, active: Arch, other: Arch, gates: torch.Tensor) -> torch.Tensor:
        """Run the path of ``active`` so that ``gates`` receive the gradient of the loss.

        ``gates`` is (edges, 2): the binary gate of the active and of the other candidate of each edge.
        Its gradient is dL/dg_j = <o_j(x), dL/d(output of the edge)> (ProxylessNAS, equation 4 and
        appendix), where o_j is computed for the two sampled candidates alone, the other one without a
        graph. Where both choices of an edge are equal there is nothing to learn, and no second pass.
        """
        gates = gates.to(x.device)
        x = self.stem(x)
        pairs = zip(active.choices, other.choices, strict=True)
        for i, (edge, (first, second)) in enumerate(zip(self.edges, pairs, strict=True)):
            if first == second:
                x = edge(x, first)
                continue
            with torch.no_grad():
                unused = edge(x, second)
            x = _gate(edge(x, first), unused, gates[i])
        return cast(torch.Tensor, self.head(x))

    @torch.no_grad()
    def forward_many(self, x: torch.Tensor, archs: Sequence[Arch]) -> list[torch.Tensor]:
        """Run several archs on one batch, each prefix that archs have in common only once.

        (N, C, H, W) -> for each arch (N, classes), equal to separate calls. Without gradients.
        """
        logits: dict[int, torch.Tensor] = {}
        for index, out in self._descend(self.stem(x), list(enumerate(archs)), 0):
            logits[index] = out
        return [logits[index] for index in range(len(archs))]

    def _descend(
        self, x: torch.Tensor, archs: list[tuple[int, Arch]], depth: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Walk the tree of common prefixes depth first, so that one activation a level is alive."""
        if depth == len(self.edges):
            logits = self.head(x)
            yield from ((index, logits) for index, _ in archs)
            return

        def choice(item: tuple[int, Arch]) -> int:
            return item[1].choices[depth]

        for option, group in groupby(sorted(archs, key=choice), key=choice):
            yield from self._descend(self.edges[depth](x, option), list(group), depth + 1)

    def extract(self, arch: Arch) -> Network:
        """Return the network of ``arch`` with a copy of its weights.

        Its batch-norm statistics were mixed with those of other paths: re-estimate them before use.
        """
        network = Network(self.space.plan(arch))
        edges = zip(self.edges, arch.choices, strict=True)
        parts = [*self.stem, *(cast(Any, edge).extract(c) for edge, c in edges), *self.head]
        for target, source in zip(network.blocks, parts, strict=True):
            target.load_state_dict(source.state_dict())
        return network

    def keep(self, kept: Sequence[Iterable[int]]) -> None:
        """Forget on every edge all candidates but ``kept``: whole paths leave memory."""
        for edge, choices in zip(self.edges, kept, strict=True):
            cast(Any, edge).keep(choices)


class _Gate(torch.autograd.Function):
    """g_active * o_active + g_other * o_other with binary gates: the active output, unchanged."""

    @staticmethod
    def forward(ctx: Any, active: torch.Tensor, other: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(active, other)
        return active.view_as(active)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
        (grad,) = grads
        gates = torch.stack([_inner(out, grad) for out in ctx.saved_tensors])
        return grad, None, gates


def _gate(active: torch.Tensor, other: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, cast(Any, _Gate).apply(active, other, gates))


def _inner(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The inner product of two (N, C, H, W) tensors; no copies where both are channels-last."""
    return torch.dot(first.permute(0, 2, 3, 1).reshape(-1), second.permute(0, 2, 3, 1).reshape(-1))
