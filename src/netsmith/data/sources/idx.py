"""MNIST-style IDX files: ``train-images-idx3-ubyte`` and its three companions, plain or ``.gz``.

Format: two zero bytes, a type (8 is unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the bytes.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from netsmith.data.decode import ArrayPictures
from netsmith.data.sources.part import MAX_ARRAY_BYTES, Bytes, Part, Source, name_labels
from netsmith.errors import DataError

_NAME = re.compile(r"^(?:.*[-_.])?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?$")
_STEMS = {"train": "train", "test": "t10k"}
#: The most that deflate can expand: no header can honestly claim more than this times the file.
_DEFLATE_RATIO = 1032


def find_idx(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the IDX files of a folder by part (``train``, ``test``) and kind (``images``, ``labels``)."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):  # a plain file sorts before its .gz and is preferred
        match = _NAME.match(path.name)
        if match is None:
            continue
        key = ("train" if match[1] == "train" else "test", match[2])
        if key in found and path.name != f"{found[key].name}.gz":
            raise DataError(
                f"{folder} holds more than one set of IDX files ({found[key].name}, {path.name}); "
                "give a folder with one"
            )
        found.setdefault(key, path)
    return found


def read_idx_folder(folder: Path) -> Source:
    """Read a folder of IDX files; the ``t10k`` pair, where there is one, is the test part.

    Raises :class:`DataError` for a missing companion, a damaged header, or bytes that do not add up.
    """
    found = find_idx(folder)
    train = _read_pair(folder, found, "train")
    has_test = any(part == "test" for part, _ in found)
    return Source(train, _read_pair(folder, found, "test") if has_test else None)


def _read_pair(folder: Path, found: dict[tuple[str, str], Path], part: str) -> Part:
    for kind in ("images", "labels"):
        if (part, kind) not in found:
            raise DataError(
                f"{folder} has no {part} {kind}: expected a file such as '{_STEMS[part]}-{kind}-"
                f"idx{3 if kind == 'images' else 1}-ubyte.gz'"
            )
    images = read_idx(found[part, "images"], dimensions=3)
    labels = read_idx(found[part, "labels"], dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{found[part, 'images']} holds {len(images)} images but {found[part, 'labels'].name} "
            f"{len(labels)} labels; they must be a pair"
        )
    places, names = name_labels(labels, None, str(found[part, "labels"]))
    return Part(ArrayPictures(images[:, None], str(found[part, "images"])), places, names)


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Read one IDX file of unsigned bytes; its size is checked before memory is taken."""
    packed = path.suffix == ".gz"
    try:
        with cast(IO[bytes], gzip.open(path) if packed else path.open("rb")) as file:
            sizes = _read_sizes(file, path, dimensions)
            count = math.prod(sizes)
            limit = path.stat().st_size * (_DEFLATE_RATIO if packed else 1)
            if count > min(limit, MAX_ARRAY_BYTES):
                raise DataError(
                    f"{path}: the header claims {'x'.join(map(str, sizes))} bytes, more than the file can "
                    f"hold or than the {MAX_ARRAY_BYTES >> 30} GiB that are read; the file is damaged"
                )
            content = file.read(count)
            if len(content) != count or file.read(1):
                raise DataError(
                    f"{path}: the header claims {count} bytes, but the file holds "
                    f"{'only ' + str(len(content)) if len(content) < count else 'more'}; it is damaged"
                )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return np.frombuffer(content, dtype=np.uint8).reshape(sizes)


def _read_sizes(file: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    head = file.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimension(s): "
            f"it starts with {head[:4].hex(' ') or 'nothing'}, not 00 00 08 0{dimensions}"
        )
    return struct.unpack(f">{dimensions}I", head[4:])
