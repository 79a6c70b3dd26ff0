"""Latency models as files that people hand to each other: one's own, and published tables.

Netsmith's own format is the JSON of :meth:`netsmith.latency.model.LatencyModel.to_dict`: a version, units,
the fingerprint of the device, for every block and network the median, a low quantile, the spread of the
median and the number of samples; and the correction from blocks to networks, with its error on networks that
it was not built from.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from netsmith.errors import TableError
from netsmith.latency import published
from netsmith.latency.cache import cache_folder
from netsmith.latency.correction import Correction
from netsmith.latency.heldout import HeldOut
from netsmith.latency.model import LatencyModel

MOST_BYTES = 256 * 2**20
_PUBLISHED = (".yaml", ".yml")
_SUFFIXES = (".json", *_PUBLISHED)


def find_table(name: str) -> Path:
    """Return the file that ``name`` means: a path, or the name of a table among the user's own.

    The user's own are the files in the folder ``tables`` of the cache. Raises :class:`TableError` where
    there is no such file.
    """
    if name.endswith(_SUFFIXES):
        if Path(name).is_file():
            return Path(name)
        raise TableError(f"there is no latency table {name}")
    folder = _own()
    for suffix in _SUFFIXES:
        if Path(name).name == name and (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    known = sorted(path.stem for path in folder.glob("*") if path.suffix in _SUFFIXES)
    raise TableError(
        f"no latency table is called '{name}' in {folder}; there is {', '.join(known) or 'none'}. Name a "
        f"file that ends in {', '.join(_SUFFIXES)}, or put one there; 'netsmith profile --save' writes them"
    )


def read_model(path: Path) -> LatencyModel:
    """Read one's own latency model, or a published table. Raises :class:`TableError` where it is neither.

    A published table has no networks: its prediction is the sum of its rows, and unchecked.
    """
    try:
        size = path.stat().st_size
        most = published.MOST_BYTES if path.suffix in _PUBLISHED else MOST_BYTES
        if size > most:
            raise TableError(f"it has {size} bytes; at most {most} are read")
        text = path.read_text(encoding="utf-8")
        if path.suffix in _PUBLISHED:
            return LatencyModel(published.read_published(text), Correction(0.0, 1.0, 0.0), HeldOut((), ()))
        return LatencyModel.from_dict(json.loads(text))
    except (OSError, ValueError, RecursionError, TableError) as error:
        raise TableError(f"cannot read the latency table {path}: {error}") from None


def place_to_save(name: str) -> Path:
    """Return the file that a table is saved to: a path, or the file of a name among the user's own.

    Raises :class:`TableError` where it is neither, or its folder cannot be made or written.
    """
    if name.endswith(".json"):
        path = Path(name)
    elif name and Path(name).name == name and not Path(name).suffix:
        path = _own() / f"{name}.json"
    else:
        raise TableError(f"a table is saved as FILE.json or under a plain name; got '{name}'")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TableError(f"cannot write the latency table {path}: {error}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise TableError(f"cannot write the latency table {path}: no file can be written there")
    return path


def write_model(path: Path, model: LatencyModel) -> None:
    """Write a model whole or not at all. Raises :class:`TableError` where that cannot be done."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(model.to_dict()), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TableError(f"cannot write the latency table {path}: {error}") from None


def _own() -> Path:
    return cache_folder() / "tables"
