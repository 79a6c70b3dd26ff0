"""A PyTorch ``Dataset`` in Python, or anything with a length whose items are (image, label)."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from netsmith.data.decode import check_pixels, header_of, resize_arrays, to_pixels
from netsmith.data.sources.npz import as_nchw
from netsmith.data.sources.part import BadImageError, Bytes, Header, Part, Shape, Skip, Source, name_labels
from netsmith.errors import DataError


@runtime_checkable
class MapDataset(Sized, Protocol):
    """Items by number: what a map-style PyTorch ``Dataset`` with a length is."""

    def __getitem__(self, index: int, /) -> Any:
        """Return (image, label)."""


@dataclass(frozen=True)
class DatasetPictures:
    """The images of a data set's items ``places``: PIL images, tensors or arrays."""

    dataset: MapDataset
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        return f"{type(self.dataset).__name__}[{self.places[index]}]"

    def header(self, index: int) -> Header:
        return _header(self._image(index))

    def pixels(self, index: int, shape: Shape) -> Bytes:
        image = self._image(index)
        if isinstance(image, Image.Image):
            try:
                return to_pixels(image, shape)
            except Exception as error:  # a lazily opened damaged file raises nearly anything
                raise BadImageError(f"cannot be decoded ({type(error).__name__}: {error})") from error
        resized: Bytes = resize_arrays(_as_bytes(image)[None], shape)[0]
        return resized

    def _image(self, index: int) -> Any:
        return _item(self.dataset, self.places[index])[0]


def read_dataset(dataset: MapDataset) -> Source:
    """Read a data set whose items are (image, label).

    Images: PIL; uint8 (C, H, W), (H, W) or, as arrays, (H, W, C); or floats of those shapes from 0 to 1.
    Labels: integers; the attribute ``classes``, a list of names, is used where it fits. An item that raises
    or is of another type counts as an unreadable image. Raises :class:`DataError`.
    """
    values: list[int] = []
    places: list[int] = []
    bad: list[Skip] = []
    for index in range(len(dataset)):
        try:
            values.append(int(_item(dataset, index)[1]))
            places.append(index)
        except (BadImageError, TypeError, ValueError) as error:
            bad.append(Skip(f"{type(dataset).__name__}[{index}]", str(error)))
    if not values:
        reason = f"; the first: {bad[0].reason}" if bad else ""
        raise DataError(f"{type(dataset).__name__} has no usable items of (image, label){reason}")
    classes = getattr(dataset, "classes", None)
    fits = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    labels, names = name_labels(values, list(classes) if fits and classes else None, type(dataset).__name__)
    return Source(Part(DatasetPictures(dataset, tuple(places)), labels, names, bad=tuple(bad)))


def _item(dataset: MapDataset, index: int) -> tuple[Any, Any]:
    try:
        item = dataset[index]
    except Exception as error:  # the user's own code may raise anything
        raise BadImageError(f"the data set raised {type(error).__name__}: {error}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BadImageError(f"an item must be (image, label); got {type(item).__name__}")
    return item[0], item[1]


def _header(image: Any) -> Header:
    if isinstance(image, Image.Image):
        check_pixels(image.height, image.width)
        return header_of(image)
    channels, height, width = _as_bytes(image).shape
    check_pixels(height, width)
    return Header(height, width, grey=channels == 1)


def _as_bytes(image: Any) -> Bytes:
    """Return a tensor or array image as uint8 (C, H, W)."""
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
        if image.ndim == 3 and image.shape[0] not in (1, 3):
            raise BadImageError(f"a tensor image must be (C, H, W) with C = 1 or 3; got {image.shape}")
    if not isinstance(image, np.ndarray):
        raise BadImageError(f"an image must be PIL, a tensor or an array; got {type(image).__name__}")
    if image.dtype.kind == "f":
        if not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise BadImageError(
                "floating-point images must be from 0 to 1; leave out the data set's own normalisation, "
                "Netsmith normalises by the train part"
            )
        image = np.rint(image * 255).astype(np.uint8)
    try:
        layout: Bytes = as_nchw(image[None], "the image")[0]
    except DataError as error:
        raise BadImageError(str(error)) from None
    return layout
