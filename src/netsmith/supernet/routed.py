"""The routed supernet (InstaNAS, section 3.1): each image of a batch takes a path of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netsmith.arch import Arch
from netsmith.nn.blocks import Sum, build_block
from netsmith.nn.network import Network
from netsmith.plan import Block, bare
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.policies import complete

# What operations beside a shortcut begin as, by the scale of their last batch norm: an edge is nearly a skip
# (Goyal et al. 2017, section 5.1, begin at 0, from where ReLU6, which ends the BasicBlock, has no gradient).
BRANCH_SCALE = 0.2
SMALLEST_GROUP = 4
"""Images. Fewer in a group are normalised by the running statistics, which they do not move."""


class RoutedSupernet(nn.Module):
    """The weights of every operation; called as ``supernet(x, policies)``, it computes what they ask for.

    The policies are an argument of every call, never a state. An operation runs on the images of the batch
    that have it active, as one smaller batch, and on no other.
    """

    def __init__(self, space: RoutedSpace) -> None:
        super().__init__()
        self.space = space
        pairs = zip(space.edges, space.skippable, strict=True)
        self.stem = nn.Sequential(*(build_block(block) for block in space.stem))
        self.edges = nn.ModuleList(RoutedEdge(edge, skippable) for edge, skippable in pairs)
        self.head = nn.Sequential(*(build_block(block) for block in space.head))

    def forward(self, x: torch.Tensor, policies: torch.Tensor) -> torch.Tensor:
        """Run each image along its path: (N, C, H, W) and booleans (N, edges, operations) -> (N, classes)."""
        active = complete(self.space, policies)
        x = self.stem(x)
        for i, edge in enumerate(self.edges):
            x = edge(x, active[:, i])
        return cast(torch.Tensor, self.head(x))

    @property
    def routed_edges(self) -> list[RoutedEdge]:
        """The edges, first to last."""
        return [cast(RoutedEdge, edge) for edge in self.edges]

    def extract(self, arch: Arch) -> Network:
        """Return the static network of one path, with a copy of its weights.

        Its batch-norm statistics were mixed with those of other paths: re-estimate them before use.
        """
        network = Network(self.space.plan(arch))
        blocks, start, end = list(network.blocks), len(self.stem), len(self.stem) + len(self.edges)
        for target, source in zip([*blocks[:start], *blocks[end:]], [*self.stem, *self.head], strict=True):
            target.load_state_dict(source.state_dict())
        for target, edge, bits in zip(blocks[start:end], self.routed_edges, arch.choices, strict=True):
            active = edge.active(bits)
            parts = target.parts if isinstance(target, Sum) else [target] * len(active)
            for part, operation in zip(parts, active, strict=True):
                part.load_state_dict(operation.state_dict())
        return network


class RoutedEdge(nn.Module):
    """The operations of one edge: what the active ones give for an image is added up, unnormalised.

    Where the edge may be skipped, its input is added to that.
    """

    def __init__(self, operations: Sequence[Block], skippable: bool) -> None:
        super().__init__()
        self.operations = nn.ModuleList(build_block(bare(block)) for block in operations)
        self.skippable = skippable
        if skippable:
            for operation in self.operations:
                *_, last = (norm for norm in operation.modules() if isinstance(norm, _BatchNorm))
                nn.init.constant_(last.weight, BRANCH_SCALE)

    def forward(self, x: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) and booleans (N, operations) -> (N, out, H / stride, W / stride).

        An image without an active operation is passed on; a row must have one where that cannot be.
        """
        whole, parts = [x] if self.skippable else [], []
        for column, operation in zip(active.unbind(1), self.operations, strict=True):
            images = column.nonzero()[:, 0]
            if len(images) == len(x):
                whole.append(_run(operation, x))
            elif len(images):
                parts.append((images, _run(operation, _rows(x, images))))
        if parts:
            whole.append(_placed(len(x), parts))
        total, *others = whole
        for other in others:
            total = total + other
        return total

    def active(self, bits: int) -> list[nn.Module]:
        """Return the operations whose bits are set."""
        return [operation for j, operation in enumerate(self.operations) if bits >> j & 1]


def _run(operation: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if len(x) >= SMALLEST_GROUP:
        return cast(torch.Tensor, operation(x))
    with _running_statistics(operation):
        return cast(torch.Tensor, operation(x))


@contextmanager
def _running_statistics(operation: nn.Module) -> Iterator[None]:
    """Have batch norms use their running statistics: of one image and one pixel there are no others."""
    norms = [norm for norm in operation.modules() if isinstance(norm, _BatchNorm) and norm.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def _rows(x: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return some images of (N, C, H, W) with channels innermost, which index_select alone would not keep."""
    return x.permute(0, 2, 3, 1).index_select(0, images).permute(0, 3, 1, 2)


def _placed(number: int, parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return (number, C, H, W): at each image the sum of what the parts hold for it, channels innermost."""
    _, channels, height, width = parts[0][1].shape
    total = parts[0][1].new_zeros(number, height, width, channels)
    for images, given in parts:
        total.index_add_(0, images, given.permute(0, 2, 3, 1))
    return total.permute(0, 3, 1, 2)
