"""Mixing images of a batch with one another, and their labels alike: mixup and cutmix."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from netsmith.data.augment import AugmentPolicy


def _beta(alpha: float, generator: torch.Generator) -> tuple[float, np.random.Generator]:
    seed = int(torch.randint(2**62, (), generator=generator))
    rng = np.random.default_rng(seed)
    return float(rng.beta(alpha, alpha)), rng


def _soft(labels: torch.Tensor, other: torch.Tensor, share: float, classes: int) -> torch.Tensor:
    return share * F.one_hot(labels, classes).float() + (1 - share) * F.one_hot(other, classes).float()


def mixup(
    x: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each image with another of the batch, by one share from Beta(alpha, alpha) (arXiv 1710.09412).

    ``x``: float (N, C, H, W). ``labels``: int64 (N,). Returns the images and soft labels (N, classes).
    """
    share, _ = _beta(alpha, generator)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    return torch.lerp(x[order], x, share), _soft(labels, labels[order], share, classes)


def cutmix(
    x: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace one rectangle of each image by another image's, its area from Beta(alpha, alpha).

    arXiv 1905.04899, section 3.1; labels are shared by the area that was really replaced. Shapes as
    :func:`mixup`.
    """
    share, rng = _beta(alpha, generator)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    top, bottom = _span(height, side, rng)
    left, right = _span(width, side, rng)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[order, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _soft(labels, labels[order], kept, classes)


def _span(size: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    centre, half = int(rng.integers(size)), round(size * share) / 2
    return max(0, int(centre - half)), min(size, int(centre + half))


def mix(
    x: torch.Tensor, labels: torch.Tensor, classes: int, policy: AugmentPolicy, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the policy's mixup or cutmix, one of them by chance where it has both; shapes as :func:`mixup`.

    Without either the images are returned as they are, with one-hot labels.
    """
    if policy.mixup and policy.cutmix:
        first = bool(torch.rand((), generator=generator) < 0.5)
    else:
        first = bool(policy.mixup)
    if first:
        return mixup(x, labels, classes, policy.mixup, generator)
    if policy.cutmix:
        return cutmix(x, labels, classes, policy.cutmix, generator)
    return x, F.one_hot(labels, classes).float()
