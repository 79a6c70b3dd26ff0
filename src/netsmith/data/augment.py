"""Augmentation of whole batches: random numbers are drawn once a batch, then applied by gathers.

What is drawn (:func:`draw`) is apart from what is done with it (:func:`apply`), so that a plain version,
image by image, can be held against it, and so that every device gets the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch

from netsmith.errors import SettingsError

# PyTorch's CPU kernels share out work of more elements than this among threads (at::internal::GRAIN_SIZE).
_PIECE = 32768


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

    def slice(self, start: int, end: int) -> Draws:
        """Return the choices for the images from ``start`` to ``end``."""

        def part(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[start:end]

        return Draws(
            part(self.flips),
            self.reach,
            part(self.rows),
            part(self.columns),
            part(self.brightness),
            part(self.contrast),
            self.erase_size,
            part(self.erased),
            part(self.top),
            part(self.left),
        )


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
    """Apply ``draws`` to ``x`` (N, C, H, W), uint8 or float of 0..255; return the same type.

    What moves in from outside is 0; what is erased is ``fill``, one value of 0..255 a channel, or 0.
    """
    size = piece(x)
    if size >= len(x):
        return _apply(x, draws, fill)
    out = torch.empty_like(x)
    for start in range(0, len(x), size):
        end = start + size
        out[start:end] = _apply(x[start:end], draws.slice(start, end), fill)
    return out


def piece(x: torch.Tensor) -> int:
    """Return how many images of ``x`` (N, C, H, W) to prepare at a time: all, unless on the CPU.

    There a piece fits the processor's cache and stays below the size at which PyTorch calls its other threads
    together, which costs more than it gains, and very much more where the processor is shared.
    """
    return max(1, _PIECE // x[0].numel()) if x.device.type == "cpu" and len(x) else len(x)


def _apply(x: torch.Tensor, draws: Draws, fill: tuple[float, ...] | None) -> torch.Tensor:
    device = x.device
    if draws.flips is not None:
        x = _flip(x, draws.flips.to(device))
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


def _flip(x: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    if x.device.type != "cpu":
        return torch.where(_per_image(flips), x.flip(-1), x)
    # NumPy, here and below: PyTorch's indexing wakes its other threads however little there is to do.
    pixels, chosen = x.numpy().copy(), flips.numpy()
    pixels[chosen] = pixels[chosen][..., ::-1]
    return torch.from_numpy(pixels)


def _shift(
    x: torch.Tensor, reach: tuple[int, int], rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    (n, channels, height, width), (down, right) = x.shape, reach
    padded = x.new_zeros(n, channels, height + 2 * down, width + 2 * right)
    padded[:, :, down : down + height, right : right + width] = x
    # Every crop is a view (N, C, 2*down+1, 2*right+1, H, W); the index copies one of them for each image.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    each, row, column = torch.arange(n, device=x.device), down - rows, right - columns
    if x.device.type != "cpu":
        return crops[each, :, row, column]
    return torch.from_numpy(crops.numpy()[each.numpy(), :, row.numpy(), column.numpy()])


def _jitter(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Scale all values by the brightness, then their distance from the image's mean by the contrast."""
    ones = torch.ones(len(x))
    brightness = (ones if draws.brightness is None else draws.brightness).to(x.device)
    contrast = (ones if draws.contrast is None else draws.contrast).to(x.device)
    scale, lift = _per_image(brightness * contrast), _per_image(brightness * (1 - contrast))
    values = x.float()
    lifts = lift * values.mean((1, 2, 3), keepdim=True)
    values = values * scale if values is x else values.mul_(scale)
    values.add_(lifts).clamp_(0, 255)
    return values.round_().to(torch.uint8) if x.dtype == torch.uint8 else values.to(x.dtype)


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
