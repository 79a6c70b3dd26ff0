"""Train, validation and test: stratified, seeded, disjoint, of exact sizes.

Weights learn from train; whatever chooses sees validation; test is read once, for the final figure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from netsmith.data.images import Images, ImageSet
from netsmith.data.reading import LoadedSet
from netsmith.data.sources.part import Labels, Shape, Skip
from netsmith.errors import DataError, SettingsError

#: More images than this make neither validation nor test surer by an amount that matters.
MOST_HELD_OUT = 10_000
#: Of streamed images, so many stand for all in the mean, the deviation and the digest.
_SAMPLE = 4096


@dataclass(frozen=True)
class Splits:
    """The three parts, with what a network must know of them.

    ``mean`` and ``std``: per channel, of train alone, of pixels as 0..1. ``digest`` changes with any label or
    image, so that a design can tell that its data are others.
    """

    train: Images
    validation: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label_names: tuple[str, ...]
    input_shape: Shape
    skipped: tuple[Skip, ...]
    digest: str

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.label_names)


def default_fractions(count: int, own_test: bool) -> tuple[float, float]:
    """Return the shares of validation and test for ``count`` images; test is 0 where the user has one.

    Small sets give more, since a figure from few images says little; neither part exceeds 10,000 images.
    """
    most = MOST_HELD_OUT / count
    validation = min(0.15 if count < 5000 else 0.1, most)
    return validation, 0.0 if own_test else min(0.2 if count < 5000 else 0.1, most)


def split(
    loaded: LoadedSet, seed: int, *, validation: float | None = None, test: float | None = None
) -> Splits:
    """Split into train, validation and test, each class shared out in proportion.

    ``validation`` and ``test`` are shares of ``loaded.train`` between 0 and 1; the parts have
    ``round(share * N)`` images, or one a class where that is more. The user's own test part is kept whole;
    a ``test`` share beside it is an error. Raises :class:`SettingsError`, and :class:`DataError` where a
    class has too few images for every part.
    """
    own_test = loaded.test is not None
    if own_test and test is not None:
        raise SettingsError(
            f"the images bring their own test part; a test share ({test}) cannot be split off too"
        )
    count = len(loaded.train)
    default_validation, default_test = default_fractions(count, own_test)
    v = default_validation if validation is None else validation
    t = default_test if test is None else test
    if not 0 < v < 1 or not (own_test or 0 < t < 1) or v + t >= 1:
        raise SettingsError(
            f"shares of validation ({v}) and test ({t}) must be over 0 and together under 1, "
            "so that train is left"
        )
    _check_enough(loaded.train, parts=2 if own_test else 3)
    labels = loaded.train.labels.numpy()
    rng = np.random.default_rng(seed)
    rest, held = np.arange(count), np.empty(0, np.int64)
    if not own_test:
        rest, held = _take(rest, labels, round(t * count), 2, rng)
    rest, valid = _take(rest, labels, round(v * count), 1, rng)
    test_images = loaded.test if loaded.test is not None else loaded.train.subset(torch.from_numpy(held))
    train = loaded.train.subset(torch.from_numpy(rest))
    validation_images = loaded.train.subset(torch.from_numpy(valid))
    mean, std = channel_statistics(train)
    return Splits(
        train=train,
        validation=validation_images,
        test=test_images,
        mean=mean,
        std=std,
        label_names=train.label_names,
        input_shape=train.input_shape,
        skipped=loaded.skipped,
        digest=digest(train, validation_images, test_images),
    )


def _check_enough(images: Images, parts: int) -> None:
    counts = torch.bincount(images.labels, minlength=len(images.label_names)).tolist()
    few = [f"{name} ({n})" for name, n in zip(images.label_names, counts, strict=True) if n < parts]
    if few:
        raise DataError(
            f"each class needs at least {parts} images, one for each of "
            f"{'train and validation' if parts == 2 else 'train, validation and test'}; "
            f"too few: {', '.join(few[:10])}{', ...' if len(few) > 10 else ''}"
        )


def _take(
    pool: Labels, labels: Labels, count: int, leave: int, rng: np.random.Generator
) -> tuple[Labels, Labels]:
    """Draw ``count`` of ``pool`` (n,), stratified by label; return the rest and the drawn, sorted."""
    order = rng.permutation(pool)
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels[order], minlength=int(labels.max()) + 1)
    quotas = allot(sizes, count, leave)
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    drawn = rank < np.repeat(quotas, sizes)
    return np.sort(order[~drawn]), np.sort(order[drawn])


def allot(sizes: Labels, count: int, leave: int) -> Labels:
    """Share ``count`` out among classes of ``sizes`` (K,): in proportion, at least 1, leaving ``leave`` each.

    ``count`` is raised to K where it is less. Raises :class:`DataError` where the classes cannot give it.
    """
    room = sizes - leave
    count = max(count, len(sizes))
    if count > room.sum():
        raise DataError(
            f"cannot hold out {count} of {sizes.sum()} images and leave {leave} of each class; ask for less"
        )
    exact = sizes * (count / sizes.sum())
    given: Labels = np.clip(np.floor(exact).astype(np.int64), 1, room)
    while given.sum() < count:
        given[np.argmax(np.where(given < room, exact - given, -np.inf))] += 1
    while given.sum() > count:
        given[np.argmax(np.where(given > 1, given - exact, -np.inf))] -= 1
    return given


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel (C,), of pixels as 0..1.

    Exact in memory, by a histogram; of streamed images from at most 4,096, evenly spaced. A channel that is
    the same everywhere counts as deviating by one grey level, so that dividing by it is safe.
    """
    counts = torch.zeros(images.input_shape[0], 256, dtype=torch.float64)
    for pixels in _some(images, _SAMPLE):
        for channel in range(len(counts)):
            counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp_min(1 / 255).tolist())


def digest(*parts: Images) -> str:
    """Return 32 hexadecimal digits that change with labels, names, shape or pixels.

    Of streamed images the pixels of at most 256 a part are looked at; all the labels always are.
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(repr((part.input_shape, len(part), part.label_names)).encode())
        state.update(part.labels.numpy().tobytes())
        for pixels in _some(part, 256):
            state.update(np.ascontiguousarray(pixels.cpu().numpy()).data)
    return state.hexdigest()


def _some(images: Images, most: int) -> list[torch.Tensor] | tuple[torch.Tensor, ...]:
    """Return uint8 (n, C, H, W) pieces: all images in memory, or at most ``most`` that are streamed."""
    if isinstance(images, ImageSet):
        return torch.split(images.images, 4096)
    places = torch.linspace(0, len(images) - 1, min(most, len(images))).round().long()
    return list(images.stream(torch.split(places, 64)))
