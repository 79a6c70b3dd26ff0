"""Labelled images of one shape: in memory where they are small, streamed through workers where not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from netsmith.data.decode import processors
from netsmith.data.sources.part import BadImageError, Bytes, Pictures, Shape
from netsmith.errors import DataError


class Images(Protocol):
    """Labelled images (N, C, H, W), uint8, wherever they are."""

    @property
    def labels(self) -> torch.Tensor:
        """Classes as int64 (N,), each a place in :attr:`label_names`."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def input_shape(self) -> Shape:
        """The shape (C, H, W) of every image."""

    @property
    def in_memory(self) -> bool:
        """Whether fetching is mere indexing."""

    def __len__(self) -> int:
        """How many images there are."""

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the images at ``indices`` (n,) as uint8 (n, C, H, W); the device is the images' own."""

    def stream(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Fetch batch after batch, in order, preparing the next ones meanwhile where that pays."""

    def subset(self, indices: torch.Tensor) -> Images:
        """Return the images at ``indices`` (n,), in that order."""


def _check_labels(labels: torch.Tensor, count: int, label_names: tuple[str, ...]) -> None:
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise DataError(
            f"labels must be int64 of shape ({count},), one an image; "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    if len(set(label_names)) != len(label_names):
        raise DataError(f"label names must differ; got {', '.join(label_names)}")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(label_names):
        raise DataError(
            f"labels must be from 0 to {len(label_names) - 1} for {len(label_names)} label names; "
            f"got {int(labels.min())} to {int(labels.max())}"
        )


@dataclass(frozen=True)
class ImageSet:
    """Images in memory: ``images`` uint8 (N, C, H, W), ``labels`` int64 (N,), and the classes' names.

    Raises :class:`DataError` where types, shapes or labels do not fit one another.
    """

    images: torch.Tensor
    labels: torch.Tensor
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] not in (1, 3):
            raise DataError(
                "images must be uint8 of shape (N, C, H, W) with C = 1 or 3; "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        _check_labels(self.labels, len(self.images), self.label_names)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def input_shape(self) -> Shape:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def in_memory(self) -> bool:
        return True

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        if self.images.device.type != "cpu":
            return self.images[indices.to(self.images.device)]
        # PyTorch's indexing wakes its other threads for every call, which costs more than the copying.
        return torch.from_numpy(self.images.numpy()[indices.cpu().numpy()])

    def stream(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        return (self.fetch(indices) for indices in batches)

    def subset(self, indices: torch.Tensor) -> ImageSet:
        return ImageSet(self.fetch(indices), self.labels[indices], self.label_names)

    def to(self, device: torch.device) -> ImageSet:
        """Return the set with its images on ``device``; labels stay where they are."""
        return ImageSet(self.images.to(device), self.labels, self.label_names)


@dataclass(frozen=True)
class StreamedImages:
    """Images too many to decode into memory, decoded by worker processes each time they are asked for.

    ``places`` (N,) are the images' places in ``pictures``. ``workers`` of zero decodes in this process.
    """

    pictures: Pictures
    places: torch.Tensor
    labels: torch.Tensor
    label_names: tuple[str, ...]
    input_shape: Shape
    workers: int = field(default_factory=lambda: min(8, processors()))

    def __post_init__(self) -> None:
        _check_labels(self.labels, len(self.places), self.label_names)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def in_memory(self) -> bool:
        return False

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        parts = torch.split(indices.cpu(), max(1, -(-len(indices) // max(1, self.workers))))
        return torch.cat(list(self.stream(parts)))

    def stream(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        decoder = _Decoder(
            self.pictures, [self.places[indices].tolist() for indices in batches], self.input_shape
        )
        workers = min(self.workers, len(batches))
        for item in DataLoader(decoder, batch_size=None, num_workers=workers, collate_fn=_as_it_is):
            if isinstance(item, str):
                raise DataError(
                    f"{item}; it was readable when the images were loaded, so it has changed since"
                )
            yield torch.from_numpy(item)

    def subset(self, indices: torch.Tensor) -> StreamedImages:
        return StreamedImages(
            self.pictures,
            self.places[indices],
            self.labels[indices],
            self.label_names,
            self.input_shape,
            self.workers,
        )


class _Decoder(Dataset[Any]):
    """One item a batch: its images (n, C, H, W), or the message of the first that cannot be decoded.

    Arrays, not tensors: they come back through a pipe, where tensors would take shared memory, of which
    containers have little.
    """

    def __init__(self, pictures: Pictures, batches: list[list[int]], shape: Shape) -> None:
        self.pictures, self.batches, self.shape = pictures, batches, shape

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Bytes | str:
        places = self.batches[number]
        out = np.empty((len(places), *self.shape), dtype=np.uint8)
        for row, place in enumerate(places):
            try:
                out[row] = self.pictures.pixels(place, self.shape)
            except BadImageError as error:
                return f"{self.pictures.name(place)}: {error}"
        return out


def _as_it_is(item: Any) -> Any:
    return item
