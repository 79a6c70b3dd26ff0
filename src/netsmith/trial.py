"""A trial: an arch with what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netsmith.arch import Arch
from netsmith.errors import ArchError


@dataclass(frozen=True, slots=True)
class Trial:
    """An arch and its figures.

    ``figures`` maps a name with its unit (``error``, ``latency_ms``, ``size_bytes``, ``macs``)
    to a value. ``reason`` is empty for a trial that counts; for one that failed or broke
    the budget it says why, and the trial is kept.
    """

    arch: Arch
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether the trial counts."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON-ready values."""
        return {"arch": self.arch.to_dict(), "figures": dict(self.figures), "reason": self.reason}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Read :meth:`to_dict`'s values. Raises :class:`ArchError` where they are not a trial."""
        try:
            return cls(Arch.from_dict(data["arch"]), dict(data["figures"]), str(data["reason"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArchError(
                f"a trial is written {{'arch': ..., 'figures': {{name: number}}, 'reason': text}}; "
                f"got {data!r:.200} ({error})"
            ) from None
