"""The files that an agent was given, by their digest: bounded, and gone when it ends."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import OrderedDict
from pathlib import Path


def digest_of(content: bytes) -> str:
    """Return the name of a file: the SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` can be a file's name; nothing else ever becomes part of a path."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


class FileStore:
    """Files in a folder of the agent's own, the longest unused leaving when ``most_bytes`` are reached."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="netsmith-agent-")
        self._sizes: OrderedDict[str, int] = OrderedDict()

    @property
    def folder(self) -> Path:
        """Where they are."""
        return Path(self._folder.name)

    def put(self, content: bytes) -> str:
        """Keep a file and return its name."""
        digest = digest_of(content)
        while self._sizes and sum(self._sizes.values()) + len(content) > self._most_bytes:
            oldest, _ = self._sizes.popitem(last=False)
            (self.folder / oldest).unlink(missing_ok=True)
        (self.folder / digest).write_bytes(content)
        self._sizes[digest] = len(content)
        return digest

    def path(self, digest: str) -> Path | None:
        """Return where a file is, or None where it is not."""
        if digest not in self._sizes:
            return None
        self._sizes.move_to_end(digest)
        return self.folder / digest

    def close(self) -> None:
        """Remove every file."""
        self._folder.cleanup()
