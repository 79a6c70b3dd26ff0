"""From whatever a person points at to checked images: pick the reader, decode, and say what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from netsmith.data.decode import ArrayPictures, choose_shape, processors, resize_arrays, suffixes
from netsmith.data.images import Images, ImageSet, StreamedImages
from netsmith.data.sources.cifar import is_cifar, read_cifar
from netsmith.data.sources.dataset import DatasetPictures, MapDataset, read_dataset
from netsmith.data.sources.digits import read_digits
from netsmith.data.sources.folder import read_folder
from netsmith.data.sources.idx import find_idx, read_idx_folder
from netsmith.data.sources.npz import read_npz
from netsmith.data.sources.parquet import read_parquet
from netsmith.data.sources.part import (
    BadImageError,
    Header,
    Labels,
    Part,
    Pictures,
    Shape,
    Skip,
    Source,
)
from netsmith.errors import DataError

#: Sets that take more bytes than this when decoded are streamed.
STREAM_BYTES = 1_500_000_000

ACCEPTED = (
    "'digits'; a folder of class folders of images; a folder of MNIST-style IDX files (also .gz), of CIFAR "
    "binary files, or of Parquet files in the Hugging Face image layout; a .parquet file; an .npz file "
    "with images and labels; or, in Python, a PyTorch Dataset"
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class LoadedSet:
    """Images to split and learn from, the user's own test part where there is one, and what was left out."""

    train: Images
    test: Images | None
    skipped: tuple[Skip, ...]


@dataclass(frozen=True)
class _Chosen:
    """The pictures of a part whose headers could be read: their places (n,), labels (n,) and names."""

    pictures: Pictures
    places: Labels
    labels: Labels
    label_names: tuple[str, ...]


def load(
    source: str | Path | MapDataset,
    *,
    image_size: int | tuple[int, int] | None = None,
    test: str | Path | MapDataset | None = None,
    skip_bad: bool = False,
) -> LoadedSet:
    """Read labelled images from any of the accepted sources.

    ``image_size``, a side or (height, width) in pixels, is chosen from the images where it is not given (see
    :func:`netsmith.data.decode.choose_shape`). ``test`` is a source of the same classes to keep as the test
    part, in place of the one that ``source`` may bring. With ``skip_bad`` unreadable images and classes
    without images are left out and listed; without it they raise :class:`DataError`, as do one-class sets,
    labels that do not fit, and sources that are none of the accepted.
    """
    raw = read_source(source)
    if test is not None:
        other = read_source(test)
        raw = replace(raw, test=other.test or other.train)
    usable, headers, skipped = _usable(raw.train, skip_bad)
    shape = choose_shape(headers, image_size)
    train, train_skips = _materialise(usable, shape, skip_bad)
    train, empty = _without_empty_classes(train, skip_bad)
    skips = [*skipped, *train_skips, *empty]
    if raw.test is None:
        return LoadedSet(train, None, tuple(skips))
    part, _, skipped = _usable(raw.test, skip_bad)
    images, test_skips = _materialise(part, shape, skip_bad)
    skips += [*skipped, *test_skips]
    return LoadedSet(train, _with_names(images, train.label_names), tuple(skips))


def read_source(source: str | Path | MapDataset) -> Source:
    """Pick the reader for ``source`` by its name, without opening images, and read it."""
    if not isinstance(source, str | Path):
        if isinstance(source, MapDataset):
            return read_dataset(source)
        raise DataError(f"cannot read images from a {type(source).__name__}; accepted: {ACCEPTED}")
    if source == "digits":
        return read_digits()
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"there is no file or folder '{path}'; accepted: {ACCEPTED}")
    reader = _folder_reader(path) if path.is_dir() else _file_reader(path)
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _file_reader(path: Path) -> Callable[[Path], Source]:
    readers = {".npz": read_npz, ".parquet": read_parquet}
    if path.suffix.lower() in readers:
        return readers[path.suffix.lower()]
    hint = "this is one file"
    if path.suffix.lower() in {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2"}:
        hint = "unpack it, or give its folder"
    elif path.suffix.lower() in suffixes():
        hint = "this is a single image"
    raise DataError(f"cannot read a set of images from '{path}' ({hint}); accepted: {ACCEPTED}")


def _folder_reader(path: Path) -> Callable[[Path], Source]:
    if find_idx(path):
        return read_idx_folder
    if is_cifar(path):
        return read_cifar
    if next(path.rglob("*.parquet"), None) is not None:
        return read_parquet
    if any(child.is_dir() and not child.name.startswith(".") for child in path.iterdir()):
        return read_folder
    raise DataError(f"the folder '{path}' holds nothing that is known; accepted: {ACCEPTED}")


def _usable(part: Part, skip_bad: bool) -> tuple[_Chosen, list[Header], list[Skip]]:
    """Read every header; return the images that have one, their headers, and what was left out."""
    pictures = part.pictures
    if isinstance(pictures, ArrayPictures):
        headers: list[Header | str] = [pictures.header(0)] * min(1, len(pictures))
        good = list(range(len(pictures)))
    else:
        headers = list(_attempts(pictures.header, range(len(pictures)), pictures))
        good = [index for index, header in enumerate(headers) if not isinstance(header, str)]
    bad = [*part.bad]
    bad += [Skip(pictures.name(i), h) for i, h in enumerate(headers) if isinstance(h, str)]
    _raise_or_skip(bad, len(pictures) + len(part.bad), skip_bad)
    chosen = _Chosen(pictures, np.array(good, dtype=np.int64), part.labels[good], part.label_names)
    return chosen, [h for h in headers if not isinstance(h, str)], [*part.ignored, *bad]


def _materialise(chosen: _Chosen, shape: Shape, skip_bad: bool) -> tuple[Images, list[Skip]]:
    """Decode into memory where the images fit, else check that each decodes and leave it to be streamed."""
    pictures, places = chosen.pictures, chosen.places
    if isinstance(pictures, ArrayPictures):
        array = torch.from_numpy(np.array(resize_arrays(pictures.array, shape), order="C"))
        return ImageSet(array, torch.from_numpy(chosen.labels), chosen.label_names), []
    stored = math.prod(shape) * len(places) <= STREAM_BYTES
    out = np.empty((len(places) if stored else 0, *shape), dtype=np.uint8)

    def decode(row: int) -> None:
        pixels = pictures.pixels(int(places[row]), shape)
        if stored:
            out[row] = pixels

    results = list(_attempts(decode, range(len(places)), pictures))
    bad = [Skip(pictures.name(int(places[i])), r) for i, r in enumerate(results) if isinstance(r, str)]
    _raise_or_skip(bad, len(places), skip_bad)
    good = np.array([i for i, result in enumerate(results) if result is None], dtype=np.int64)
    labels = torch.from_numpy(chosen.labels[good])
    if stored:
        images = torch.from_numpy(out if not bad else out[good])
        return ImageSet(images, labels, chosen.label_names), bad
    kept = torch.from_numpy(places[good])
    return StreamedImages(pictures, kept, labels, chosen.label_names, shape), bad


def _attempts(work: Callable[[int], _T], items: Sequence[int], pictures: Pictures) -> Iterator[_T | str]:
    """Yield ``work(item)`` in order, or the reason of its :class:`BadImageError`.

    Threads share the work, since Pillow decodes without Python's lock; a user's own data set is asked from
    one thread alone, as it may not be made for more.
    """

    def attempt(item: int) -> _T | str:
        try:
            return work(item)
        except BadImageError as error:
            return str(error)

    if isinstance(pictures, DatasetPictures):
        yield from map(attempt, items)
        return
    with ThreadPoolExecutor(max_workers=min(8, processors())) as pool:
        for start in range(0, len(items), 4096):  # bounds the queue of a large set
            yield from pool.map(attempt, items[start : start + 4096])


def _raise_or_skip(bad: Sequence[Skip], total: int, skip_bad: bool) -> None:
    if not total:
        raise DataError(f"the source holds no images; accepted: {ACCEPTED}")
    if not bad or (skip_bad and len(bad) < total):
        return
    listed = "; ".join(f"{skip.path}: {skip.reason}" for skip in bad[:5])
    more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    advice = "none is left" if len(bad) == total else "mend or remove them, or use the rest with --skip-bad"
    raise DataError(f"{len(bad)} of {total} images cannot be used ({advice}): {listed}{more}")


def _without_empty_classes(images: Images, skip_bad: bool) -> tuple[Images, list[Skip]]:
    """Drop the classes that no image has, or say which they are; at least two must be left."""
    names = images.label_names
    counts = torch.bincount(images.labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts.tolist(), strict=True) if count == 0]
    if empty and not skip_bad:
        raise DataError(
            f"{len(empty)} of {len(names)} classes have no images: {', '.join(empty[:10])}"
            f"{', ...' if len(empty) > 10 else ''}; add images, remove the classes, or pass --skip-bad"
        )
    kept = tuple(name for name in names if name not in set(empty))
    if len(kept) < 2:
        raise DataError(
            f"the images have {len(kept)} class ({', '.join(kept)}); a network needs at least 2 to tell apart"
        )
    skips = [Skip(name, "the class has no images") for name in empty]
    return (_with_names(images, kept) if empty else images), skips


def _with_names(images: Images, names: tuple[str, ...]) -> Images:
    """Return ``images`` with their labels as places in ``names``; each label that is used must be there."""
    place = {name: index for index, name in enumerate(names)}
    used = torch.unique(images.labels).tolist()
    unknown = [images.label_names[label] for label in used if images.label_names[label] not in place]
    if unknown:
        raise DataError(
            f"the test part has classes that the train part has not: {', '.join(unknown[:10])}; "
            f"train has {', '.join(names[:10])}"
        )
    table = torch.tensor([place.get(name, -1) for name in images.label_names], dtype=torch.int64)
    labels = table[images.labels]
    if isinstance(images, ImageSet):
        return ImageSet(images.images, labels, names)
    assert isinstance(images, StreamedImages)
    return replace(images, labels=labels, label_names=names)
