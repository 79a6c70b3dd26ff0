"""Small batches with known answers."""

from collections.abc import Iterator

import pytest
import torch


class Tensors:
    """Batches of tensors held in memory, shuffled by (seed, epoch) where there is a seed."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, batch_size: int, seed: int | None = None) -> None:
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.arange(len(self.x))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 1000 + number)
            order = torch.randperm(len(self.x), generator=generator)
        for chosen in order.split(self.batch_size):
            yield self.x[chosen], self.y[chosen]


def separable(images: int, seed: int, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a brighter left or right half: two classes that a linear function tells apart."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(images) % 2
    x = 0.3 * torch.randn(images, 1, size, size, generator=generator)
    x[y == 0, :, :, : size // 2] += 1.0
    x[y == 1, :, :, size // 2 :] += 1.0
    return x, y


@pytest.fixture(autouse=True)
def _on_the_processor(monkeypatch):
    """Bit-equality is promised on a processor with the same threads; small work is fastest on one."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def train_batches():
    return Tensors(*separable(96, 0), 16, seed=0)


@pytest.fixture
def validation_batches():
    return Tensors(*separable(64, 1), 32)


@pytest.fixture
def make_batches():
    return Tensors
