"""Splits: disjoint, exact, stratified, seeded; statistics of train alone."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netsmith.data import ImageSet, LoadedSet, Splits, channel_statistics, split
from netsmith.data.splits import allot, default_fractions
from netsmith.errors import DataError, SettingsError


def make(sizes: list[int], own_test: int = 0) -> LoadedSet:
    """Images that each hold their own number in their first pixels."""
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    numbers = torch.arange(len(labels))
    images[:, 0, 0, 0], images[:, 0, 0, 1] = numbers % 256, numbers // 256
    names = tuple(f"c{label}" for label in range(len(sizes)))
    test = ImageSet(images[:own_test], labels[:own_test], names) if own_test else None
    return LoadedSet(ImageSet(images, labels, names), test, ())


def numbers(images: object) -> list[int]:
    assert isinstance(images, ImageSet)
    return (images.images[:, 0, 0, 0].int() + 256 * images.images[:, 0, 0, 1].int()).tolist()


def counts(images: object, classes: int) -> np.ndarray:
    assert isinstance(images, ImageSet)
    return np.bincount(images.labels.numpy(), minlength=classes)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(3, 60), min_size=2, max_size=8),
    seed=st.integers(0, 1000),
    validation=st.floats(0.02, 0.3),
    test=st.floats(0.02, 0.3),
)
def test_split_properties(sizes: list[int], seed: int, validation: float, test: float) -> None:
    loaded = make(sizes)
    total, classes = sum(sizes), len(sizes)
    parts = split(loaded, seed, validation=validation, test=test)
    triple = (parts.train, parts.validation, parts.test)
    assert sorted(chain.from_iterable(map(numbers, triple))) == list(range(total))
    assert len(parts.test) == max(classes, round(test * total))
    assert len(parts.validation) == max(classes, round(validation * total))
    shares = np.array(sizes) / total
    for part in triple:
        assert counts(part, classes).min() >= 1
    if min(sizes) >= 60 * test and min(sizes) * min(test, validation) >= 1:
        for part in (parts.validation, parts.test):
            assert np.abs(counts(part, classes) - shares * len(part)).max() < classes
    again = split(loaded, seed, validation=validation, test=test)
    assert all(numbers(a) == numbers(b) for a, b in zip(triple, _triple(again), strict=True))
    assert again.digest == parts.digest


def _triple(parts: Splits) -> tuple[object, object, object]:
    return parts.train, parts.validation, parts.test


@settings(deadline=None, max_examples=100)
@given(sizes=st.lists(st.integers(3, 500), min_size=2, max_size=30), share=st.floats(0, 0.5))
def test_allot_is_exact_and_near_proportion(sizes: list[int], share: float) -> None:
    array = np.array(sizes)
    count = round(share * array.sum())
    if max(count, len(sizes)) > (array - 2).sum():
        with pytest.raises(DataError, match="cannot hold out"):
            allot(array, count, 2)
        return
    given_out = allot(array, count, 2)
    assert given_out.sum() == max(count, len(sizes))
    assert (given_out >= 1).all()
    assert (array - given_out >= 2).all()
    exact = array * (given_out.sum() / array.sum())
    free = (exact >= 1) & (exact <= array - 2)
    if free.all():
        assert np.abs(given_out - exact).max() < 1 + 1e-9


def test_seeds_differ_and_equal_classes_share_equally() -> None:
    loaded = make([100] * 4)
    first, second = split(loaded, 0), split(loaded, 1)
    assert numbers(first.test) != numbers(second.test)
    assert first.digest != second.digest
    assert counts(first.test, 4).tolist() == [20] * 4
    assert counts(first.validation, 4).tolist() == [15] * 4


def test_own_test_part_is_kept_whole() -> None:
    loaded = make([30, 30], own_test=7)
    parts = split(loaded, 0)
    assert parts.test is loaded.test
    assert len(parts.train) + len(parts.validation) == 60
    with pytest.raises(SettingsError, match="own test part"):
        split(loaded, 0, test=0.1)


def test_too_few_images_name_the_class() -> None:
    with pytest.raises(DataError, match=r"at least 3 images.*c1 \(2\)"):
        split(make([30, 2]), 0)
    assert len(split(make([30, 2], own_test=3), 0).train) > 0
    for shares in ((0.5, 0.5), (0.0, 0.1), (0.1, 1.2)):
        with pytest.raises(SettingsError, match="shares"):
            split(make([30, 30]), 0, validation=shares[0], test=shares[1])


def test_default_fractions_are_bounded() -> None:
    assert default_fractions(1800, own_test=False) == (0.15, 0.2)
    assert default_fractions(60_000, own_test=True) == (0.1, 0.0)
    validation, test = default_fractions(1_000_000, own_test=False)
    assert round(validation * 1_000_000) == round(test * 1_000_000) == 10_000


def test_statistics_are_of_train_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (90, 3, 6, 5), dtype=torch.uint8, generator=generator)
    parts = split(LoadedSet(ImageSet(pixels, torch.arange(90) % 3, ("a", "b", "c")), None, ()), 0)
    assert isinstance(parts.train, ImageSet)
    values = parts.train.images.double() / 255
    assert torch.allclose(torch.tensor(parts.mean, dtype=torch.float64), values.mean((0, 2, 3)))
    std = values.std((0, 2, 3), correction=0)
    assert torch.allclose(torch.tensor(parts.std, dtype=torch.float64), std)
    assert parts.classes == 3
    assert parts.input_shape == (3, 6, 5)
    flat = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    assert channel_statistics(flat) == ((0.0,), (1 / 255,))


def test_digest_sees_pixels_labels_and_names() -> None:
    loaded = make([20, 20])
    train = loaded.train
    assert isinstance(train, ImageSet)
    pixels, labels = train.images.clone(), train.labels.clone()
    pixels[7, 0, 1, 1] = 1
    labels[:2] = 1 - labels[:2]
    sets = [
        train,
        ImageSet(pixels, train.labels, train.label_names),
        ImageSet(train.images, labels, train.label_names),
        ImageSet(train.images, train.labels, ("x", "y")),
    ]
    assert len({split(LoadedSet(images, None, ()), 0).digest for images in sets}) == 4
