"""A space whose every arch has been trained by somebody else, with the figures that they published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from netsmith.arch import Arch
from netsmith.errors import TableError
from netsmith.spaces.space import Space
from netsmith.trial import Trial

Figures = Mapping[str, float]
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class PublishedTable:
    """The figures of every arch of ``space``, by its choices. All are to be minimised."""

    name: str
    space: Space
    rows: Mapping[tuple[int, ...], Figures]

    def __post_init__(self) -> None:
        if len(self.rows) != self.space.count():
            raise TableError(
                f"table '{self.name}' has {len(self.rows)} archs; its space has {self.space.count()}"
            )

    def trial(self, arch: Arch) -> Trial:
        """Return the trial of an arch, as if it had been trained."""
        self.space.check(arch)
        return Trial(arch, self.rows[arch.choices])

    def least(self, figure: str) -> float:
        """Return the true optimum of a figure. Raises :class:`TableError` where there is no such figure."""
        try:
            return min(row[figure] for row in self.rows.values())
        except KeyError:
            known = ", ".join(sorted(next(iter(self.rows.values()))))
            raise TableError(f"table '{self.name}' has no figure '{figure}'; it has {known}") from None


def read_whole(path: Path, read: Callable[[Path], PublishedTable]) -> PublishedTable:
    """Read a table by ``read``; what is not such a table is a :class:`TableError` that names the file."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise TableError(f"{path} has {size} bytes; at most {MOST_BYTES} are read")
        return read(path)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{path} cannot be read as a published table: {error!r:.300}") from None
