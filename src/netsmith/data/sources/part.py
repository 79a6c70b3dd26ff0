"""What every reader gives back: pictures that can be decoded one by one, with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from netsmith.errors import DataError

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

#: Most bytes that one array of pixels may take; larger sets belong in a folder or in Parquet, which stream.
MAX_ARRAY_BYTES = 4 * 2**30


class BadImageError(DataError):
    """One image that cannot be used; the message is the reason alone, without its name."""


class Skip(NamedTuple):
    """An image, file or class that was left out, and why."""

    path: str
    reason: str


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded; sizes in pixels, upright."""

    height: int
    width: int
    grey: bool


class Pictures(Protocol):
    """Images of any size and mode, decoded on demand; can be sent to worker processes."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, index: int) -> str:
        """What a message calls the image."""

    def header(self, index: int) -> Header:
        """Size and colour; raises :class:`BadImageError`."""

    def pixels(self, index: int, shape: Shape) -> Bytes:
        """Decode as ``shape`` (C, H, W), uint8; raises :class:`BadImageError`."""


@dataclass(frozen=True)
class Part:
    """Pictures, their labels (N,) as places in ``label_names``, and what the reader itself left out.

    ``bad`` are images that a person would want to know of: an error unless skipping is asked for.
    ``ignored`` are things that were never images, such as a text file beside them: listed only.
    """

    pictures: Pictures
    labels: Labels
    label_names: tuple[str, ...]
    bad: tuple[Skip, ...] = ()
    ignored: tuple[Skip, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.labels):
            raise DataError(
                f"{len(self.pictures)} images but {len(self.labels)} labels; every image needs one label"
            )


@dataclass(frozen=True)
class Source:
    """What one source holds: images to learn from and, where it brings one, its own test part."""

    train: Part
    test: Part | None = None


def name_labels(
    values: Sequence[object] | npt.NDArray[np.generic], names: Sequence[str] | None, origin: str
) -> tuple[Labels, tuple[str, ...]]:
    """Turn raw labels (N,) into places in label names.

    With ``names`` the values must be integers within them. Without, every distinct integer or string
    becomes a class, in numerical or alphabetical order. Raises :class:`DataError`.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise DataError(
            f"{origin}: labels must be one integer or string an image, of shape (N,); "
            f"got {array.dtype} of shape {array.shape}"
        )
    if names is None:
        distinct, places = np.unique(array, return_inverse=True)
        return places.astype(np.int64), tuple(str(value) for value in distinct)
    if array.dtype.kind == "U":
        raise DataError(f"{origin}: labels are strings, so label names must not be given as well")
    outside = np.flatnonzero((array < 0) | (array >= len(names)))
    if len(outside):
        at = int(outside[0])
        raise DataError(
            f"{origin}: label {array[at]} of image {at} is outside the {len(names)} label names "
            f"(0 to {len(names) - 1}); {len(outside)} labels are"
        )
    return array.astype(np.int64), tuple(str(name) for name in names)


#: The words of file and folder names that say which part of a data set they hold.
_PART_WORDS = {
    "test": "test",
    "t10k": "test",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
}
_PART_WORDS |= {"validation": "validation", "eval": "validation", "train": "train", "training": "train"}


def part_word(text: str) -> str | None:
    """Return ``"train"``, ``"validation"`` or ``"test"`` for a name that says so, else ``None``."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return next((_PART_WORDS[word] for word in words if word in _PART_WORDS), None)
