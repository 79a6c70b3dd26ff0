"""Images of which one half is trivially easy and the other not, and a space where the hard ones cost more."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from netsmith.costs import Costs
from netsmith.plan import Block
from netsmith.spaces.routed import RoutedSpace

PIXELS, CLASSES = 8, 3
DEAR, CHEAP = 0, 1
COSTS = Costs(1.0, [[3.0, 1.0]] * 3)


def space() -> RoutedSpace:
    """Three edges of a 3x3 operation and one that sees single pixels, as the stem and the head do."""
    shape = (16, 16, PIXELS, PIXELS)
    edge = tuple(Block("mbconv", *shape, kernel=k, hidden=32, shortcut=True) for k in (3, 1))
    stem = Block("conv", 3, 16, PIXELS, PIXELS)
    return RoutedSpace("easy-and-hard", (stem,), (edge,) * 3, (Block("head", *shape, hidden=32),))


class EasyAndHard:
    """Batches of images with their labels; every second image is hard.

    The label of an easy one is its colour. A hard one is grey, and its label the direction of its stripes, of
    which single pixels and their mean say nothing.
    """

    def __init__(self, batches: int, batch: int, seed: int) -> None:
        self._batches, self._batch, self._seed = batches, batch, seed

    def __len__(self) -> int:
        return self._batches

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self._seed + 1000 * number)
        for _ in range(self._batches):
            y = torch.randint(CLASSES, (self._batch,), generator=generator)
            noise = 0.2 * torch.randn(self._batch, 3, PIXELS, PIXELS, generator=generator)
            phase = torch.randint(4, (self._batch,), generator=generator)
            x = noise + torch.where(is_hard(self._batch)[:, None, None, None], _stripes(y, phase), _colour(y))
            yield x.contiguous(memory_format=torch.channels_last), y


def is_hard(n: int) -> torch.Tensor:
    return torch.arange(n) % 2 == 1


def _colour(y: torch.Tensor) -> torch.Tensor:
    return torch.eye(3)[y][:, :, None, None].expand(-1, -1, PIXELS, PIXELS)


def _stripes(y: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    """Two pixels light, two dark, along rows, columns or diagonals."""
    row, column = torch.meshgrid(torch.arange(PIXELS), torch.arange(PIXELS), indexing="ij")
    place = torch.stack([row, column, row + column])[y] + phase[:, None, None]
    return (2.0 * (place % 4 < 2) - 1)[:, None].expand(-1, 3, -1, -1)
