"""Batches: a pure function of seed and epoch, resumable, normalised, clean on errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from netsmith.data import AugmentPolicy, ImageSet, Loader, batch_generator
from netsmith.data.loader import _ahead
from netsmith.errors import SettingsError

POLICY = AugmentPolicy(shift=0.2, flip=True, erase=0.3)


def image_set(count: int = 23, channels: int = 3) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, 8, 7), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 2, ("a", "b"))


def loader(
    images: ImageSet, size: int = 5, *, policy: AugmentPolicy | None = POLICY, seed: int = 0
) -> Loader:
    channels = images.input_shape[0]
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.1)[:channels]
    return Loader(images, size, mean=mean, std=std, policy=policy, seed=seed)


def equal(first: Iterator[tuple[torch.Tensor, ...]], second: Iterator[tuple[torch.Tensor, ...]]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    images = image_set()
    one = loader(images)
    list(one.epoch(0))
    assert equal(one.epoch(3), loader(images).epoch(3))
    assert not torch.equal(one.order(3), one.order(4))
    assert not torch.equal(one.order(3), loader(images, seed=1).order(3))
    torch.manual_seed(99)
    assert equal(one.epoch(3), loader(images).epoch(3))


@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_going_on_inside_an_epoch(start: int) -> None:
    one = loader(image_set())
    assert len(one) == 5
    rest = list(one.epoch(2))[start:]
    assert equal(iter(rest), one.epoch(2, start_batch=start))


def test_every_image_once_normalised_in_order_of_the_epoch() -> None:
    images = image_set()
    one = loader(images, policy=None)
    batches = list(one.epoch(1))
    assert [len(y) for _, y in batches] == [5, 5, 5, 5, 3]
    order = one.order(1)
    assert sorted(order.tolist()) == list(range(23))
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)
    expected = (images.images[order].float() / 255 - mean) / std
    assert torch.allclose(torch.cat([x for x, _ in batches]), expected, atol=1e-5)
    assert torch.equal(torch.cat([y for _, y in batches]), images.labels[order])


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_is_channels_last(channels: int) -> None:
    x, y = next(loader(image_set(channels=channels)).epoch(0))
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.stride() == (8 * 7 * channels, 1, 7 * channels, channels)


def test_what_moves_in_is_black_and_what_is_erased_is_the_mean() -> None:
    images = ImageSet(
        torch.full((64, 1, 8, 8), 255, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64), ("a",)
    )
    for policy, value in ((AugmentPolicy(shift=0.25), 0.0), (AugmentPolicy(erase=0.5), 102 / 255)):
        one = Loader(images, 64, mean=(0.4,), std=(0.2,), policy=policy)
        x, _ = next(one.epoch(0))
        found = sorted({round(v, 4) for v in x.unique().tolist()})
        assert found == sorted({round((value - 0.4) / 0.2, 4), round((1 - 0.4) / 0.2, 4)})


def test_evaluation_keeps_the_order() -> None:
    images = image_set()
    one = Loader(images, 10, mean=(0.5,) * 3, std=(0.5,) * 3, shuffle=False)
    assert torch.equal(torch.cat([y for _, y in one.epoch(0)]), images.labels)
    assert torch.equal(one.order(7), torch.arange(23))


def test_drop_last() -> None:
    images = image_set()
    for size, expected in ((5, [5] * 4), (23, [23]), (40, [23])):
        one = Loader(images, size, mean=(0.5,) * 3, std=(0.5,) * 3, drop_last=True)
        assert [len(y) for _, y in one.epoch(0)] == expected
        assert len(one) == len(expected)


def test_settings_are_checked() -> None:
    images = image_set()
    with pytest.raises(SettingsError, match="batch size"):
        loader(images, 0)
    with pytest.raises(SettingsError, match="mean and std need 3"):
        Loader(images, 4, mean=(0.5,), std=(0.5,))
    with pytest.raises(SettingsError, match="no images"):
        loader(images.subset(torch.tensor([], dtype=torch.int64)))
    with pytest.raises(SettingsError, match="cannot start at 6"):
        loader(images).epoch(0, start_batch=6)


def test_generators_depend_on_their_place() -> None:
    def first(*place: int | str) -> int:
        return int(torch.randint(2**60, (), generator=batch_generator(0, *place)))

    assert first(1, 2) == first(1, 2)
    assert len({first(1, 2), first(2, 1), first(12), first(1, 2, "augment")}) == 4


def numbered(count: int, fail_at: int = -1) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for i in range(count):
        if i == fail_at:
            raise ValueError(f"batch {i}")
        yield torch.tensor(i), torch.tensor(i)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "netsmith-loader"]


def test_the_thread_keeps_order_hands_errors_over_and_ends() -> None:
    assert [int(x) for x, _ in _ahead(numbered(9))] == list(range(9))
    assert threads() == []
    failing = _ahead(numbered(9, fail_at=4))
    assert [int(next(failing)[0]) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="batch 4"):
        next(failing)
    assert threads() == []
    early = _ahead(numbered(100))
    assert int(next(early)[0]) == 0
    early.close()  # type: ignore[attr-defined]
    assert threads() == []


def test_a_limited_epoch_takes_other_images_each_time():
    images = ImageSet(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 2, ("a", "b"))
    loader = Loader(images, 4, mean=(0.5,), std=(0.5,), limit=10)
    assert len(loader) == 3
    assert [len(y) for _, y in loader.epoch(0)] == [4, 4, 2]
    taken = [set(loader.order(number).tolist()) for number in range(3)]
    assert all(len(places) == 10 for places in taken)
    assert taken[0] != taken[1]
    with pytest.raises(SettingsError, match="at least 1"):
        Loader(images, 4, mean=(0.5,), std=(0.5,), limit=0)
