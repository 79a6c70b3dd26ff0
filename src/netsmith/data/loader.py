"""Batches for training and evaluation: a pure function of the seed and the epoch's number."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import Final

import torch

from netsmith.data.augment import AugmentPolicy, augment, piece
from netsmith.data.images import Images, ImageSet
from netsmith.errors import SettingsError

Batch = tuple[torch.Tensor, torch.Tensor]


def batch_generator(seed: int, *place: int | str) -> torch.Generator:
    """Return a CPU generator that depends on ``seed`` and ``place`` alone, such as an epoch and a batch."""
    text = "/".join(map(str, (seed, *place)))
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(number >> 1)


class Loader:
    """Yields (x, y): x float32 (N, C, H, W), normalised, in channels-last order; y int64 (N,).

    ``mean`` and ``std``: of pixels as 0..1, one a channel; x is (pixels / 255 - mean) / std. ``policy``
    augments before that, so that what a shift brings in is black. Order and augmentation of an epoch
    depend on nothing but ``seed`` and its number, so a resumed run sees the same batches, on any device.
    ``shuffle=False`` keeps the images' own order. ``drop_last`` leaves out a last, shorter batch, unless it
    is the only one. ``limit`` is how many images an epoch takes at most; where they are shuffled,
    each epoch takes others.

    Images in memory are moved to ``device`` once and prepared there. Streamed ones are decoded by worker
    processes and prepared by a thread, while the caller computes.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        policy: AugmentPolicy | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        shuffle: bool = True,
        drop_last: bool = False,
        limit: int | None = None,
    ) -> None:
        channels = images.input_shape[0]
        if limit is not None and limit < 1:
            raise SettingsError(f"an epoch takes at least 1 image; got a limit of {limit}")
        if batch_size < 1:
            raise SettingsError(f"the batch size must be at least 1; got {batch_size}")
        if not len(images):
            raise SettingsError("there are no images to make batches of")
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise SettingsError(
                f"mean and std need {channels} values, one a channel, std over 0; got {mean} and {std}"
            )
        self.device: Final = torch.device(device)
        self.images: Final = images.to(self.device) if isinstance(images, ImageSet) else images
        self.batch_size: Final = batch_size
        self.policy: Final = policy
        self.seed: Final = seed
        self.shuffle: Final = shuffle
        self.drop_last: Final = drop_last
        self._count = len(images) if limit is None else min(limit, len(images))
        self._fill = tuple(255 * value for value in mean)
        scale = torch.tensor([1 / (255 * s) for s in std])
        offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        self._scale = scale.view(1, -1, 1, 1).to(self.device)
        self._offset = offset.view(1, -1, 1, 1).to(self.device)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        count, size = self._count, self.batch_size
        return max(1, count // size) if self.drop_last else -(-count // size)

    def order(self, number: int) -> torch.Tensor:
        """Return the images' places (N,) in the order of epoch ``number``."""
        count = len(self.images)
        if not self.shuffle:
            return torch.arange(self._count)
        order = torch.randperm(count, generator=batch_generator(self.seed, number, "order"))
        return order[: self._count]

    def epoch(self, number: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``number`` from ``start_batch`` on.

        Raises :class:`SettingsError` for a batch that the epoch does not have, and
        :class:`netsmith.errors.DataError` where a streamed image can no longer be decoded.
        """
        if not 0 <= start_batch <= len(self):
            raise SettingsError(f"an epoch has {len(self)} batches; cannot start at {start_batch}")
        batches = self._prepared(number, start_batch)
        return batches if self.images.in_memory else _ahead(batches)

    def _prepared(self, number: int, start: int) -> Iterator[Batch]:
        places = list(torch.split(self.order(number), self.batch_size))[start : len(self)]
        for step, pixels in enumerate(self.images.stream(places)):
            x = pixels.to(self.device)
            if self.policy is not None:
                generator = batch_generator(self.seed, number, start + step, "augment")
                x = augment(x, self.policy, generator, self._fill)
            yield self.normalise(x), self.images.labels[places[step]].to(self.device)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (N, C, H, W) into normalised float32 with channels innermost in memory."""
        # empty() gives one-channel images channels-last strides too, which to() would leave as they are.
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device, memory_format=torch.channels_last)
        size = piece(x)
        for start in range(0, len(x), size):
            part = out[start : start + size]
            part.copy_(x[start : start + size]).mul_(self._scale).add_(self._offset)
        return out


_END: Final = object()


def _ahead(batches: Iterator[Batch], depth: int = 2) -> Iterator[Batch]:
    """Yield ``batches``, made by a thread that is at most ``depth`` ahead and ends when the caller stops."""
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stopped.is_set():
                    return
            put(_END)
        except BaseException as error:  # handed to the caller, who raises it
            put(error)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="netsmith-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            assert isinstance(item, tuple)
            yield item
    finally:
        stopped.set()
        thread.join()
