"""Augmentation of whole batches: random numbers are drawn once a batch, then applied by gathers.

What is drawn (:func:`draw`) is apart from what is done with it (:func:`apply`), so that a plain version,
image by image, can be held against it, and so that every device gets the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from netsmith.errors import SettingsError


#: So many floats are changed at a time; a quarter of a megabyte.
_PIECE = 65536


@dataclass(frozen=True, slots=True)
class AugmentPolicy:
    """How strongly images are changed while training; all zero changes nothing.

    ``shift``: the most that an image moves, as a share of its sides. ``flip``: mirrored left to right, every
    second time. ``erase``: the side of a square that is blanked, as a share of the image's sides, every
    second time (cutout, arXiv 1708.04552). ``brightness``, ``contrast``: the most that each is scaled up or
    down by, as a share. ``mixup`` (arXiv 1710.09412) and ``cutmix`` (arXiv 1905.04899): the parameter of
    their Beta distributions.
    """

    shift: float = 0.0
    flip: bool = False
    erase: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "shift": 0.5,
            "erase": 1.0,
            "brightness": 1.0,
            "contrast": 1.0,
            "mixup": 10.0,
            "cutmix": 10.0,
        }
        for name, most in limits.items():
            if not 0 <= getattr(self, name) <= most:
                raise SettingsError(
                    f"the augmentation's {name} must be from 0 to {most}; got {getattr(self, name)}"
                )

    def to_json(self) -> dict[str, float | bool]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Draws(NamedTuple):
    """The random choices for a batch, each (N,), or ``None`` where the policy makes none.

    ``rows``, ``columns``: pixels that content moves down and right. ``top``, ``left``: the corner of the
    erased square, which may overhang; ``erased`` says whether there is one.
    """

    flips: torch.Tensor | None
    reach: tuple[int, int]
    rows: torch.Tensor | None
    columns: torch.Tensor | None
    brightness: torch.Tensor | None
    contrast: torch.Tensor | None
    erase_size: tuple[int, int]
    erased: torch.Tensor | None
    top: torch.Tensor | None
    left: torch.Tensor | None


def draw(policy: AugmentPolicy, shape: tuple[int, int, int, int], generator: torch.Generator) -> Draws:
    """Draw the choices for a batch of ``shape`` (N, C, H, W) from a generator on the CPU."""
    n, _, height, width = shape

    def integers(low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high + 1, (n,), generator=generator)

    def coin() -> torch.Tensor:
        return torch.rand(n, generator=generator) < 0.5

    def factor(most: float) -> torch.Tensor | None:
        return 1 + most * (2 * torch.rand(n, generator=generator) - 1) if most else None

    flips = coin() if policy.flip else None
    reach = round(policy.shift * height), round(policy.shift * width)
    moves = any(reach)
    rows = integers(-reach[0], reach[0]) if moves else None
    columns = integers(-reach[1], reach[1]) if moves else None
    brightness, contrast = factor(policy.brightness), factor(policy.contrast)
    size = round(policy.erase * height), round(policy.erase * width)
    erases = all(size)
    return Draws(
        flips,
        reach,
        rows,
        columns,
        brightness,
        contrast,
        size,
        coin() if erases else None,
        # The centre is anywhere in the image, so that its border is erased as often as its middle.
        integers(0, height - 1) - size[0] // 2 if erases else None,
        integers(0, width - 1) - size[1] // 2 if erases else None,
    )


def apply(x: torch.Tensor, draws: Draws, fill: tuple[float, ...] | None = None) -> torch.Tensor:
    """Apply ``draws`` to ``x`` (N, C, H, W), uint8 or float of 0..255; return the same type, clamped to it.

    What moves in from outside is 0; what is erased is ``fill``, one value of 0..255 a channel, or 0.
    """
    device = x.device
    if draws.flips is not None:
        x, chosen = x.clone(), draws.flips.nonzero()[:, 0].to(device)
        x[chosen] = x[chosen].flip(-1)
    if draws.rows is not None and draws.columns is not None:
        x = _shift(x, draws.reach, draws.rows.to(device), draws.columns.to(device))
    if draws.brightness is not None or draws.contrast is not None:
        x = _jitter(x, draws)
    if draws.erased is not None and draws.top is not None and draws.left is not None:
        x = _erase(x, draws, fill)
    return x


def augment(
    x: torch.Tensor,
    policy: AugmentPolicy,
    generator: torch.Generator,
    fill: tuple[float, ...] | None = None,
) -> torch.Tensor:
    """Return ``x`` (N, C, H, W), uint8 or float of 0..255, changed as ``policy`` says; ``x`` itself is kept.

    ``generator`` lives on the CPU whatever device ``x`` is on. For ``fill`` see :func:`apply`.
    """
    n, channels, height, width = x.shape
    return apply(x, draw(policy, (n, channels, height, width), generator), fill)


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def _shift(
    x: torch.Tensor, reach: tuple[int, int], rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    (n, _, height, width), (down, right) = x.shape, reach
    padded = F.pad(x, (right, right, down, down))
    # Every crop is a view (N, C, 2*down+1, 2*right+1, H, W); the index copies one of them for each image.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(n, device=x.device), :, down - rows, right - columns]


def _jitter(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Scale all values by the brightness, then their distance from the image's mean by the contrast."""
    ones = torch.ones(len(x))
    brightness = (ones if draws.brightness is None else draws.brightness).to(x.device)
    contrast = (ones if draws.contrast is None else draws.contrast).to(x.device)
    scale, lift = _per_image(brightness * contrast), _per_image(brightness * (1 - contrast))
    out = torch.empty_like(x)
    # In pieces that fit the processor's cache: five times faster at 224x224 than the batch at once.
    piece = max(1, _PIECE // x[0].numel()) if x.device.type == "cpu" else len(x)
    for source, a, b, target in zip(*(t.split(piece) for t in (x, scale, lift, out)), strict=True):
        values = source.float()
        lifts = b * values.mean((1, 2, 3), keepdim=True)
        values = values.mul_(a) if values is not source else values * a
        values.add_(lifts).clamp_(0, 255)
        target.copy_(values.round_() if x.dtype == torch.uint8 else values)
    return out


def _erase(x: torch.Tensor, draws: Draws, fill: tuple[float, ...] | None) -> torch.Tensor:
    assert draws.erased is not None
    assert draws.top is not None
    assert draws.left is not None
    height, width = x.shape[2:]
    y, z = torch.arange(height)[None], torch.arange(width)[None]
    rows = (y >= draws.top[:, None]) & (y < draws.top[:, None] + draws.erase_size[0]) & draws.erased[:, None]
    columns = (z >= draws.left[:, None]) & (z < draws.left[:, None] + draws.erase_size[1])
    square = (rows[:, None, :, None] & columns[:, None, None, :]).to(x.device)
    values = torch.tensor(fill or (0.0,), device=x.device)
    if x.dtype == torch.uint8:
        values = values.round()
    # Multiplying runs in vector instructions where torch.where does not: ten times faster on uint8.
    out = x * (~square).to(x.dtype)
    return out.add_(values.to(x.dtype).view(1, -1, 1, 1) * square.to(x.dtype)) if fill else out


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
