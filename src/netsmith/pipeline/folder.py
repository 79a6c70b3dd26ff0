"""The folder of a design: its settings, its journal, its files, and one process at a time."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from netsmith.errors import FolderError
from netsmith.journal import Journal
from netsmith.pipeline.settings import Settings, joined, merge, read_toml, to_toml

LEAST_FREE_BYTES = 200 * 2**20


class DesignFolder:
    """An open, locked folder. Use it as a context; leaving it lets the next process in.

    A new folder is made and takes ``settings``; an old one must have been made with the same. Raises
    :class:`FolderError` where it is locked, of another design, full or not writable.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self._make()
        self._lock = filelock.FileLock(path / ".lock", timeout=0)

    def __enter__(self) -> DesignFolder:
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise FolderError(
                f"another process is designing in {self.path}; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise FolderError(f"cannot lock {self.path}: {error.strerror or error}") from None
        try:
            self._agree()
            self.journal = Journal(self.path / "journal")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def checkpoints(self) -> Path:
        """Where unfinished work is kept."""
        return self.path / "checkpoints"

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file of the folder whole or not at all."""
        return write_whole(self.path / name, content)

    def write_json(self, name: str, value: Any) -> Path:
        """Write JSON, indented; not-a-number is refused."""
        return self.write_bytes(name, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())

    def _make(self) -> None:
        """Make the folder, and find out before any work whether it can be written and has room."""
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".probe"
            probe.write_bytes(b"x")
            probe.unlink()
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise FolderError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another --out"
            ) from None
        if free < LEAST_FREE_BYTES:
            raise FolderError(
                f"{self.path} has {free / 2**20:.0f} MiB free; a design needs {LEAST_FREE_BYTES >> 20}. "
                "Free some space or choose another --out"
            )

    def _agree(self) -> None:
        """Write the settings of a new folder; compare those of an old one."""
        if not agrees(self.path, [self.settings]):
            self.write_bytes("design.toml", self.settings.to_toml().encode())


def agrees(folder: Path, asked: Sequence[Settings]) -> bool:
    """Whether a folder was made with these settings, of one device or several; False where it is new.

    Raises :class:`FolderError` where it was made with others.
    """
    path = folder / "design.toml"
    if not path.exists():
        return False
    old = merge(read_toml(path), {})
    same = merge(tomllib.loads(to_toml(asked)), {})  # numbers of several devices are text there
    if old != same:
        theirs, ours = joined(old), joined(same)
        changed = [f"{n}: {theirs[n]} there, {ours[n]} asked" for n in theirs if theirs[n] != ours[n]]
        raise FolderError(
            f"{folder} holds another design; these settings differ: {'; '.join(changed)}. "
            "Run it with its own settings, or choose another --out"
        )
    return True


def write_whole(target: Path, content: bytes) -> Path:
    """Write a file whole or not at all. Raises :class:`FolderError` where that cannot be done."""
    temporary = target.with_name(f".{target.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FolderError(
            f"cannot write {target}: {error.strerror or error}; free some space and run the same "
            "command again: it goes on where it was"
        ) from None
    return target
