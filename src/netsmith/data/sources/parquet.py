"""Parquet files in the Hugging Face image layout: ``image`` as struct{bytes, path} and ``label``."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from netsmith.data.decode import MAX_FILE_BYTES, read_header, read_pixels
from netsmith.data.sources.part import Bytes, Header, Part, Shape, Skip, Source, name_labels, part_word
from netsmith.errors import DataError, MissingExtraError

_IMAGE_COLUMNS = ("image", "img", "images")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


class PackedPictures:
    """Encoded images one after another in a temporary file, removed with the last user of this object.

    Row groups of Parquet cannot be read image by image in a shuffled order, so the still encoded bytes are
    laid out once. Worker processes read the same file by its path.
    """

    def __init__(self, path: Path, offsets: Sequence[int], names: tuple[str, ...]) -> None:
        self.path = path
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.names = names
        self._cleanup = weakref.finalize(self, path.unlink, missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process must not remove the file when it goes.
        return {key: value for key, value in self.__dict__.items() if key != "_cleanup"}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def name(self, index: int) -> str:
        return self.names[index]

    def header(self, index: int) -> Header:
        return read_header(self._open(index))

    def pixels(self, index: int, shape: Shape) -> Bytes:
        return read_pixels(self._open(index), shape)

    def _open(self, index: int) -> IO[bytes]:
        start, end = self.offsets[index : index + 2]
        with self.path.open("rb") as file:
            file.seek(int(start))
            return io.BytesIO(file.read(int(end - start)))


@dataclass
class _Rows:
    """What has been gathered of one part's rows."""

    offsets: list[int]
    names: list[str]
    values: list[Any]
    bad: list[Skip]


def read_parquet(path: Path) -> Source:
    """Read one ``.parquet`` file, or a folder of them whose names say ``train``, ``validation`` or ``test``.

    Validation files are the test part where there is no other, and join ``train`` beside one, since Netsmith
    draws its own validation part. Raises :class:`DataError` and :class:`MissingExtraError`.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    parts: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for file in files:
        word = None if path.is_file() else part_word(str(file.relative_to(path)))
        parts[word or "train"].append(file)
    if not parts["test"]:
        parts["test"], parts["validation"] = parts["validation"], []
    if not parts["train"]:
        raise DataError(f"{path}: no Parquet file holds a train part; got {', '.join(f.name for f in files)}")
    test = parts["test"]
    return Source(_read_files(parts["train"] + parts["validation"]), _read_files(test) if test else None)


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a file as ``pyarrow.parquet.ParquetFile``; what cannot be read of it is a :class:`DataError`.

    Raises :class:`MissingExtraError` without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"reading {path.name}") from None
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _read_files(files: Iterable[Path]) -> Part:
    rows = _Rows([0], [], [], [])
    names: list[str] | None = None
    handle = tempfile.NamedTemporaryFile(prefix="netsmith-", suffix=".images", delete=False)  # noqa: SIM115
    try:
        with handle as out:
            for file in files:
                names = _read_file(file, out, rows) or names
        origin = str(next(iter(files)))
        labels, label_names = (
            name_labels(rows.values, names, origin) if rows.values else (np.zeros(0, np.int64), ())
        )
    except BaseException:
        Path(handle.name).unlink(missing_ok=True)
        raise
    pictures = PackedPictures(Path(handle.name), rows.offsets, tuple(rows.names))
    return Part(pictures, labels, label_names, bad=tuple(rows.bad))


def _read_file(path: Path, out: IO[bytes], rows: _Rows) -> list[str] | None:
    """Append the rows of one file; return the label names of its Hugging Face schema, where it has one."""
    if path.stat().st_size > shutil.disk_usage(tempfile.gettempdir()).free * 0.9:
        raise DataError(
            f"{path}: too little room in {tempfile.gettempdir()} for its images; set TMPDIR elsewhere"
        )
    with open_parquet(path) as file:
        image, label = _columns(path, file.schema_arrow)
        index = 0
        for batch in file.iter_batches(batch_size=64, columns=[image, label]):
            images, values = batch.column(0).to_pylist(), batch.column(1).to_pylist()
            for picture, value in zip(images, values, strict=True):
                _add_row(f"{path}[{index}]", picture, value, out, rows)
                index += 1
        return _names(file.schema_arrow, label)


def _add_row(name: str, picture: Any, value: Any, out: IO[bytes], rows: _Rows) -> None:
    content = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(content, bytes) or not content:
        rows.bad.append(Skip(name, "holds no image bytes (a path alone is not followed)"))
    elif len(content) > MAX_FILE_BYTES:
        rows.bad.append(Skip(name, f"the image is larger than {MAX_FILE_BYTES >> 20} MiB"))
    elif value is None or (isinstance(value, int) and value < 0):
        rows.bad.append(Skip(name, f"has no label (got {value})"))
    else:
        out.write(content)
        rows.offsets.append(rows.offsets[-1] + len(content))
        rows.names.append(name)
        rows.values.append(value)


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    image = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
    if image is None or label is None:
        raise DataError(
            f"{path} has the columns {', '.join(schema.names)}; expected an image column "
            f"({', '.join(_IMAGE_COLUMNS)}) and a label column ({', '.join(_LABEL_COLUMNS)})"
        )
    return image, label


def _names(schema: Any, label: str) -> list[str] | None:
    """Return the label names that the ``huggingface`` metadata holds, or ``None``."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None
