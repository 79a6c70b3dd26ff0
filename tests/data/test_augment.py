"""Batched augmentation against plain versions, image by image."""

from __future__ import annotations

import pytest
import torch

from netsmith.data.augment import AugmentPolicy, Draws, apply, augment, draw
from netsmith.errors import SettingsError

FULL = AugmentPolicy(shift=0.25, flip=True, erase=0.4, brightness=0.3, contrast=0.3)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = 40, channels: int = 3, height: int = 12, width: int = 9) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=rng(1))


def plain(image: torch.Tensor, draws: Draws, i: int, fill: tuple[float, ...]) -> torch.Tensor:
    """One image (C, H, W), pixel by pixel."""
    channels, height, width = image.shape
    if draws.flips is not None and draws.flips[i]:
        image = image.flip(-1)
    if draws.rows is not None and draws.columns is not None:
        moved = torch.zeros_like(image)
        for y in range(height):
            for x in range(width):
                y0, x0 = y - int(draws.rows[i]), x - int(draws.columns[i])
                if 0 <= y0 < height and 0 <= x0 < width:
                    moved[:, y, x] = image[:, y0, x0]
        image = moved
    if draws.brightness is not None and draws.contrast is not None:
        values = image.double() * float(draws.brightness[i])
        mean = values.mean()
        values = (mean + (values - mean) * float(draws.contrast[i])).clamp(0, 255)
        image = values.round().to(torch.uint8) if image.dtype == torch.uint8 else values.to(image.dtype)
    if draws.erased is not None and draws.top is not None and draws.left is not None and draws.erased[i]:
        image = image.clone()
        top, left = int(draws.top[i]), int(draws.left[i])
        rows, columns = draws.erase_size
        for channel in range(channels):
            area = image[channel, max(0, top) : top + rows, max(0, left) : left + columns]
            area.fill_(round(fill[channel]) if image.dtype == torch.uint8 else fill[channel])
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "policy",
    [
        AugmentPolicy(),
        AugmentPolicy(flip=True),
        AugmentPolicy(shift=0.25),
        AugmentPolicy(erase=0.5),
        AugmentPolicy(brightness=0.5, contrast=0.5),
        FULL,
    ],
)
def test_equals_the_plain_version(policy: AugmentPolicy, dtype: torch.dtype, channels: int) -> None:
    x = batch(channels=channels).to(dtype)
    kept, fill = x.clone(), (10.4, 20.6, 30.0)[:channels]
    draws = draw(policy, (40, channels, 12, 9), rng())
    found = apply(x, draws, fill)
    expected = torch.stack([plain(image, draws, i, fill) for i, image in enumerate(x)])
    assert found.dtype == dtype
    if policy.brightness:  # single precision may round the other way
        assert (found.double() - expected.double()).abs().max() <= (1 if dtype == torch.uint8 else 1e-3)
    else:
        assert torch.equal(found, expected)
    assert torch.equal(x, kept)


def test_pieces_equal_the_whole_batch() -> None:
    x = batch(n=30, height=50, width=50)  # several pieces
    draws = draw(FULL, (30, 3, 50, 50), rng())
    whole = apply(x, draws, (1.0, 2.0, 3.0))
    each = [apply(x[i : i + 1], draws.slice(i, i + 1), (1.0, 2.0, 3.0)) for i in range(30)]
    assert torch.equal(whole, torch.cat(each))


def test_draws_are_seeded_and_cover_their_ranges() -> None:
    x = batch()
    assert torch.equal(augment(x, FULL, rng(3)), augment(x, FULL, rng(3)))
    assert not torch.equal(augment(x, FULL, rng(3)), augment(x, FULL, rng(4)))
    draws = draw(FULL, (4000, 1, 12, 8), rng())
    assert draws.rows is not None
    assert draws.columns is not None
    assert draws.flips is not None
    assert sorted(set(draws.rows.tolist())) == list(range(-3, 4))
    assert sorted(set(draws.columns.tolist())) == list(range(-2, 3))
    assert 0.45 < draws.flips.float().mean() < 0.55
    assert torch.equal(augment(x, AugmentPolicy(), rng()), x)


def test_policy_limits() -> None:
    for field in ("shift", "erase", "brightness", "contrast", "mixup", "cutmix"):
        with pytest.raises(SettingsError, match=field):
            AugmentPolicy(**{field: -0.1})
    assert AugmentPolicy(**FULL.to_json()) == FULL
