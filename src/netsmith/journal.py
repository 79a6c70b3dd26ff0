"""The journal of a design: every event and figure as one JSON line, written the moment it is known.

A line is complete or it does not count: what a killed process left of its last line is cut off when
the journal is opened again. Readers see a list of dictionaries, each with ``event`` and ``time``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from netsmith.errors import FolderError

MAX_BYTES = 512 * 2**20


class Journal:
    """Appends events to a file and remembers those that are there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.events = list(read(path)) if path.exists() else []
            self._cut_unfinished_line()
        except OSError as error:
            raise FolderError(f"cannot read {path}: {error.strerror or error}") from error

    def write(self, event: str, **values: Any) -> dict[str, Any]:  # the event's own fields, any JSON
        """Append an event durably and return it. Raises :class:`FolderError` where it cannot be written."""
        record = {"event": event, "time": round(time.time(), 3), **values}
        line = json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):  # half a line on a full disk must not run into the next one
                self._cut_unfinished_line()
            raise FolderError(
                f"cannot write to {self.path}: {error.strerror}; free some space or choose another --out, "
                "then run the same command again: it goes on where it was"
            ) from error
        self.events.append(record)
        return record

    def last(self, event: str, **match: Any) -> dict[str, Any] | None:
        """Return the last event of this name whose fields equal ``match``, or None."""
        found = self.all(event, **match)
        return found[-1] if found else None

    def all(self, event: str, **match: Any) -> list[dict[str, Any]]:
        """Return the events of this name whose fields equal ``match``, oldest first."""
        return [
            record
            for record in self.events
            if record["event"] == event and all(record.get(k) == v for k, v in match.items())
        ]

    def _cut_unfinished_line(self) -> None:
        if self.path.exists():
            content = self.path.read_bytes()
            end = content.rfind(b"\n") + 1
            if end < len(content):
                os.truncate(self.path, end)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal. Raises :class:`FolderError` where a whole line is not one."""
    if path.stat().st_size > MAX_BYTES:
        raise FolderError(f"{path} has over {MAX_BYTES} bytes, more than any design writes; not read")
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            if not isinstance(record["event"], str):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FolderError(
                f"line {number} of {path} is not an event; the journal is damaged. Mend or remove the "
                "folder and design again"
            ) from None
        yield record
