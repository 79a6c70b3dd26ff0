"""Evaluating a module, and re-estimating the batch-norm statistics of one that was cut out of a supernet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netsmith.errors import DataError


class Batches(Protocol):
    """Images and labels by batches; the same epoch gives the same batches, always."""

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (N, C, H, W) float32 images, normalised, and (N,) int64 labels."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a module tells the classes apart.

    ``accuracy`` is a share of 1; ``loss`` the mean cross-entropy in nats; ``predictions`` the (N,) int64
    labels that it gave, in the order of the batches, where they were asked for.
    """

    accuracy: float
    loss: float
    images: int
    predictions: torch.Tensor | None = None


def evaluate(module: nn.Module, batches: Batches, *, predictions: bool = False) -> Evaluation:
    """Evaluate ``module`` where it lies, in evaluation mode, over epoch 0 of ``batches``.

    Raises :class:`DataError` where there are no images.
    """
    correct, loss_sum, images, given = 0, 0.0, 0, []
    device = device_of(module)
    with _mode(module, training=False), torch.no_grad():
        for x, y in batches.epoch(0):
            labels = y.to(device)
            logits = module(x.to(device)).float()
            guesses = logits.argmax(1)
            loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((guesses == labels).sum())
            images += len(labels)
            if predictions:
                given.append(guesses.cpu())
    if images == 0:
        raise DataError("there is nothing to evaluate on: the batches hold no images")
    return Evaluation(correct / images, loss_sum / images, images, torch.cat(given) if predictions else None)


def recalibrate(module: nn.Module, batches: Batches, n: int, *, part: nn.Module | None = None) -> int:
    """Re-estimate the statistics of every batch norm over the first ``n`` batches; return the batches used.

    Each running mean and variance becomes the plain average of those of the batches (PyTorch's
    ``momentum=None``), with everything else in evaluation mode and no weight touched. A norm that not every
    batch reaches averages those that do; one that none reaches keeps what it has. ``part`` leaves all
    norms but those inside it as they are. The batches should be of the training part. Raises
    :class:`DataError` where there are none.
    """
    parts = (module if part is None else part).modules()
    norms = [norm for norm in parts if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    if not norms:
        return 0
    device, used = device_of(module), 0
    momenta = [norm.momentum for norm in norms]
    try:
        with _mode(module, training=False), torch.no_grad():
            for norm in norms:
                _seen(norm).zero_()
                norm.train()
            for x, _ in islice(batches.epoch(0), n):
                for norm in norms:
                    # What momentum None does, said so that the compiled kernels do it too. At first it is
                    # 1, which takes nothing of what was there.
                    norm.momentum = 1 / (int(_seen(norm)) + 1)
                module(x.to(device))
                used += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if used == 0:
        raise DataError("batch norms cannot be re-estimated: the batches hold no images")
    return used


def _seen(norm: _BatchNorm) -> torch.Tensor:
    """The batches that a norm has taken statistics of: a number that it moves itself."""
    return cast(torch.Tensor, norm.num_batches_tracked)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's first parameter; the CPU where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


@contextmanager
def _mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Hold the whole module in one mode, and give each part its own back."""
    before = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        yield
    finally:
        for part, was in before.items():
            part.training = was
