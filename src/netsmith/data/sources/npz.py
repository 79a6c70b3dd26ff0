"""NumPy archives: ``images``, ``labels``, and perhaps ``test_images``, ``test_labels``, ``label_names``.

Nothing is unpickled, and each array's header is checked against the archive before memory is taken.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netsmith.data.decode import ArrayPictures
from netsmith.data.sources.part import MAX_ARRAY_BYTES, Bytes, Part, Source, name_labels
from netsmith.errors import DataError

# What zipfile and NumPy raise for archives that are damaged, encrypted or oddly packed.
_DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, OverflowError, MemoryError)
_KNOWN = ("images", "labels", "test_images", "test_labels", "label_names")


def read_npz(path: Path) -> Source:
    """Read uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) and labels (N,) from an ``.npz`` file.

    Raises :class:`DataError` for missing arrays, pickled objects, other types, or a damaged archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {Path(name).stem for name in archive.namelist() if name.endswith(".npy")}
            arrays = {name: _read_array(archive, path, name) for name in _KNOWN if name in held}
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file: {error}") from error
    names = None
    if "label_names" in arrays:
        names = [str(name) for name in arrays["label_names"].ravel()]
    train = _part(path, arrays, held, "", names)
    has_test = "test_images" in arrays or "test_labels" in arrays
    return Source(train, _part(path, arrays, held, "test_", names) if has_test else None)


def _part(
    path: Path,
    arrays: dict[str, npt.NDArray[np.generic]],
    held: set[str],
    prefix: str,
    names: list[str] | None,
) -> Part:
    for key in (f"{prefix}images", f"{prefix}labels"):
        if key not in arrays:
            raise DataError(
                f"{path} has no array '{key}'; it holds {', '.join(sorted(held)) or 'nothing'}. "
                "Expected: images and labels (test_images, test_labels and label_names are optional)"
            )
    images = as_nchw(arrays[f"{prefix}images"], f"{path}:{prefix}images")
    values = arrays[f"{prefix}labels"]
    if len(values) != len(images):
        raise DataError(f"{path}: {len(images)} {prefix}images but {len(values)} {prefix}labels")
    labels, label_names = name_labels(values, names, f"{path}:{prefix}labels")
    return Part(ArrayPictures(images, f"{path}:{prefix}images"), labels, label_names)


def _read_array(archive: zipfile.ZipFile, path: Path, name: str) -> npt.NDArray[np.generic]:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise DataError(
            f"{path}: '{name}' holds pickled Python objects, which are never read; save plain arrays"
        )
    if min(shape, default=0) < 0 or size > min(info.file_size, MAX_ARRAY_BYTES):
        raise DataError(
            f"{path}: '{name}' claims {size} bytes, more than the archive holds ({info.file_size}) "
            f"or than the {MAX_ARRAY_BYTES >> 30} GiB that are read"
        )
    with archive.open(info) as file:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def as_nchw(array: npt.NDArray[np.generic], origin: str) -> Bytes:
    """Return uint8 images of any of the three layouts as (N, C, H, W).

    Raises :class:`DataError` where the type is another or the layout cannot be told.
    """
    if array.dtype != np.uint8:
        raise DataError(
            f"{origin} must be uint8 from 0 to 255; got {array.dtype}. Convert it first, for example "
            "(images * 255).round().astype('uint8') for values from 0 to 1"
        )
    images = np.asarray(array, dtype=np.uint8)
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        if first != last:
            return images if first else images.transpose(0, 3, 1, 2)
        if first:
            raise DataError(
                f"{origin}: shape {images.shape} can be read as (N, C, H, W) and as (N, H, W, C); "
                "save images with more than 3 rows and columns"
            )
    raise DataError(
        f"{origin}: shape {images.shape} is none of (N, H, W), (N, H, W, C) and (N, C, H, W) with C = 1 or 3"
    )
