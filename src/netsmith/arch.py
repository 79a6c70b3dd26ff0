"""An arch: one immutable point of a space, as plain integers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netsmith.errors import ArchError


@dataclass(frozen=True, slots=True)
class Arch:
    """One point of a space.

    ``space`` is the identifier of the space that made it (:attr:`Space.id`), so that an
    arch is never read by another space; ``choices`` is one integer for each decision,
    the index of the option taken.
    """

    space: str
    choices: tuple[int, ...]

    @property
    def digest(self) -> str:
        """A stable name of 16 hexadecimal digits: equal archs, equal digests, on any machine."""
        text = json.dumps([self.space, list(self.choices)], separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the arch as JSON-ready values; :meth:`from_dict` reads them back."""
        return {"space": self.space, "choices": list(self.choices)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Arch:
        """Read :meth:`to_dict`'s values. Raises :class:`ArchError` where they are not an arch."""
        known = data if isinstance(data, Mapping) else {}
        space, choices = known.get("space"), known.get("choices")
        if not isinstance(space, str) or not isinstance(choices, list):
            raise ArchError(f"an arch is written {{'space': text, 'choices': [integers]}}; got {data!r:.200}")
        if not all(type(choice) is int for choice in choices):
            raise ArchError(f"choices of an arch are integers; got {choices!r:.200}")
        return cls(space, tuple(choices))
