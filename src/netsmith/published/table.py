"""A space whose every arch has been trained by somebody else, with the figures that they published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netsmith.arch import Arch
from netsmith.errors import TableError
from netsmith.pareto import ranks
from netsmith.spaces.space import Space
from netsmith.trial import Trial

Figures = Mapping[str, float]
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class PublishedTable:
    """The figures of every arch of ``space``, by its choices. All are to be minimised.

    ``scores`` are what can be known of an arch before it is trained, the greater the better: hints for a
    search, and no figures of a trial. One may be ``-inf``.
    """

    name: str
    space: Space
    rows: Mapping[tuple[int, ...], Figures]
    scores: Mapping[str, Mapping[tuple[int, ...], float]] = field(default_factory=dict)

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
        return min(self._column(figure))

    def front(self, figures: Sequence[str]) -> list[tuple[float, ...]]:
        """Return the true front of these figures, each point once. Raises :class:`TableError` likewise."""
        points = sorted(set(zip(*map(self._column, figures), strict=True)))
        return [point for point, rank in zip(points, ranks(points), strict=True) if rank == 0]

    def _column(self, figure: str) -> list[float]:
        try:
            return [row[figure] for row in self.rows.values()]
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
