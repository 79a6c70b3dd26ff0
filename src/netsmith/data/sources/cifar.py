"""CIFAR-10 and CIFAR-100 in their binary form: records of label bytes and 3x32x32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from netsmith.data.decode import ArrayPictures
from netsmith.data.sources.part import MAX_ARRAY_BYTES, Part, Source
from netsmith.errors import DataError

_PIXELS = 3 * 32 * 32
_TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_cifar(folder: Path) -> bool:
    """Whether the folder holds CIFAR-10's or CIFAR-100's binary files."""
    return any(folder.glob("data_batch_*.bin")) or (folder / "train.bin").is_file()


def read_cifar(folder: Path) -> Source:
    """Read ``data_batch_*.bin`` (CIFAR-10) or ``train.bin`` (CIFAR-100, its 100 fine labels).

    ``test_batch.bin`` or ``test.bin``, where present, is the test part. Raises :class:`DataError`.
    """
    batches = sorted(folder.glob("data_batch_*.bin"))
    if batches:
        names, test, label_bytes = _names(folder / "batches.meta.txt", _TEN), "test_batch.bin", 1
    else:
        hundred = tuple(str(label) for label in range(100))
        names, test, label_bytes = _names(folder / "fine_label_names.txt", hundred), "test.bin", 2
        batches = [folder / "train.bin"]
    test_path = folder / test
    return Source(
        _read_records(batches, names, label_bytes),
        _read_records([test_path], names, label_bytes) if test_path.is_file() else None,
    )


def _names(path: Path, default: tuple[str, ...]) -> tuple[str, ...]:
    if not path.is_file() or path.stat().st_size > 65536:
        return default
    lines = tuple(line.strip() for line in path.read_text("utf-8", errors="replace").split("\n"))
    names = tuple(line for line in lines if line)
    return names if len(names) == len(default) == len(set(names)) else default


def _read_records(paths: list[Path], names: tuple[str, ...], label_bytes: int) -> Part:
    size = label_bytes + _PIXELS
    total = sum(path.stat().st_size for path in paths)
    if total > MAX_ARRAY_BYTES:
        raise DataError(f"{paths[0].parent}: {total} bytes of records; at most {MAX_ARRAY_BYTES} are read")
    records = []
    for path in paths:
        content = np.fromfile(path, dtype=np.uint8)
        if len(content) == 0 or len(content) % size:
            raise DataError(
                f"{path} is not CIFAR-{len(names)} binary: {len(content)} bytes are not a whole number of "
                f"records of {size} bytes; it may be cut short"
            )
        records.append(content.reshape(-1, size))
        worst = records[-1][:, label_bytes - 1].max()
        if worst >= len(names):
            raise DataError(
                f"{path}: a record has label {worst}, outside 0 to {len(names) - 1}; it is damaged"
            )
    table = np.concatenate(records)
    images = table[:, label_bytes:].reshape(-1, 3, 32, 32)
    return Part(
        ArrayPictures(images, str(paths[0].parent)), table[:, label_bytes - 1].astype(np.int64), names
    )
