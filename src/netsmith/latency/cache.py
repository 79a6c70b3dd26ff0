"""Latency tables kept per user, one file a device fingerprint, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from netsmith.errors import TableError
from netsmith.latency.table import LatencyTable

ENVIRONMENT = "NETSMITH_CACHE"
_MOST_BYTES = 256 * 2**20
_LOCK_S = 10.0

_log = logging.getLogger(__name__)


class TableStore(Protocol):
    """Where measured rows are kept the moment they are known."""

    def load(self, fingerprint: Mapping[str, str]) -> LatencyTable | None:
        """Return what is known of a device, or None."""

    def save(self, table: LatencyTable) -> None:
        """Keep the table's rows, beside those that another process has kept since."""


def cache_folder() -> Path:
    """The user's cache of Netsmith, or what the variable ``NETSMITH_CACHE`` names."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else user_cache_path("netsmith", appauthor=False)


class TableCache:
    """Tables as JSON files in a folder; by default in the user's cache.

    A file that cannot be read is set aside with a warning and built anew; a folder that cannot be written
    costs a warning, since the figures at hand are as good without it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "latency" if folder is None else folder

    def path(self, fingerprint: Mapping[str, str]) -> Path:
        """Where the table of this fingerprint stands."""
        text = json.dumps(dict(fingerprint), sort_keys=True)
        return self.folder / f"{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}.json"

    def load(self, fingerprint: Mapping[str, str]) -> LatencyTable | None:
        """Read the table of ``fingerprint``; None where there is none, or none that can be used."""
        path = self.path(fingerprint)
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise TableError(f"it is larger than {_MOST_BYTES} bytes")
            table = LatencyTable.from_dict(json.loads(path.read_text(encoding="utf-8")))
            if table.fingerprint != dict(fingerprint):
                raise TableError("it is of another device")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError, TableError) as error:
            _log.warning("the latency table %s cannot be used and is measured again: %s", path, error)
            return None
        return table

    def save(self, table: LatencyTable) -> None:
        """Add the table's rows to the file, whole or not at all, under a lock between processes."""
        path = self.path(table.fingerprint)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), timeout=_LOCK_S):
                kept = self.load(table.fingerprint)
                if kept is not None:
                    kept = replace(kept.scaled_to(table.reference_ms), call_ms=table.call_ms)
                    table = kept.with_rows(table.rows, table.networks)
                temporary = path.with_suffix(f".{os.getpid()}")
                temporary.write_text(json.dumps(table.to_dict()), encoding="utf-8")
                temporary.replace(path)
        except (OSError, Timeout) as error:
            _log.warning("the latency table cannot be kept in %s: %s", path, error)
