"""What a sweep is of: networks made smaller, in which ways and by how much, runtimes, precisions, threads."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from netsmith.compress.weights import Sparsity
from netsmith.devices.device import PRECISIONS, Precision
from netsmith.errors import CompressionError, SettingsError, nearest

# What is taken away, and what a strength is a share of.
KINDS = {
    "weights": "the weights behind the first layer, the least of the whole network",
    "layers": "the weights behind the first layer, the least of each layer",
    "pattern": "the weights behind the first layer, as many of each run of neighbouring inputs (n:m)",
    "channels": "the multiply-adds, by whole channels",
    "both": "the multiply-adds by whole channels, and then as large a share of the weights that are left",
}
WHOLE = "whole"
SHARES_OF_WEIGHTS = ("weights", "layers", "pattern")
RUNS = (4, 8, 16)  # the m of n:m, the first that divides as asked
MOST_STRENGTHS, MOST_THREADS = 20, 16


@dataclass(frozen=True, slots=True)
class Variant:
    """A network of a sweep: what is taken away, and how much of it, 0 of the whole network."""

    kind: str
    strength: float

    @property
    def name(self) -> str:
        """Such as ``whole`` or ``channels-0.5``."""
        return WHOLE if self.kind == WHOLE else f"{self.kind}-{self.strength:g}"

    @property
    def sparsity(self) -> Sparsity | None:
        """The weights that go during its training; None where none do.

        Raises :class:`CompressionError` where no pattern takes so large a share away.
        """
        if self.kind in ("weights", "both"):
            return Sparsity(self.strength)
        if self.kind == "layers":
            return Sparsity(self.strength, "layer")
        return self._pattern() if self.kind == "pattern" else None

    @property
    def narrower(self) -> bool:
        """Whether channels go before its training."""
        return self.kind in ("channels", "both")

    def _pattern(self) -> Sparsity:
        for run in RUNS:
            kept = (1 - self.strength) * run
            if abs(kept - round(kept)) < 1e-9:
                return Sparsity.pattern(round(kept), run)
        raise CompressionError(
            f"no pattern n:m with m of {', '.join(map(str, RUNS))} takes away {self.strength:g} of the "
            f"weights; ask for a multiple of 1/{RUNS[-1]}"
        )


@dataclass(frozen=True, slots=True)
class File:
    """A variant as a file of a runtime, in a precision."""

    variant: Variant
    runtime: str
    precision: Precision

    @property
    def name(self) -> str:
        """Fit for a file, and unique in its sweep."""
        runtime = re.sub(r"[^A-Za-z0-9.]+", "-", self.runtime).strip("-")
        return f"{self.variant.name}-{runtime}-{self.precision}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination that a sweep measures. Raises :class:`SettingsError` on what it cannot be of.

    ``runtimes`` are devices without threads and precision, which the grid goes through.
    """

    runtimes: tuple[str, ...]
    threads: tuple[int, ...] = (1,)
    kinds: tuple[str, ...] = ("weights", "pattern", "channels")
    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    precisions: tuple[Precision, ...] = PRECISIONS

    def __post_init__(self) -> None:
        for name in ("runtimes", "threads", "kinds", "strengths", "precisions"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"a sweep has at least one of its {name}, each once; got {list(values)}")
        for runtime in self.runtimes:
            if re.search(r"(^|[:,])(threads|precision)=", runtime.split("runtime=")[-1]):
                raise SettingsError(
                    f"a sweep goes through threads and precisions itself: leave them out of '{runtime}'"
                )
        for kind in self.kinds:
            if kind not in KINDS:
                raise SettingsError(
                    f"a sweep has no kind '{kind}'{nearest(kind, KINDS)}; known: {', '.join(KINDS)}"
                )
        if len(self.strengths) > MOST_STRENGTHS or not all(0 <= s < 1 for s in self.strengths):
            raise SettingsError(
                f"strengths are at most {MOST_STRENGTHS} shares of 0 to below 1; got {list(self.strengths)}"
            )
        if not all(1 <= threads <= MOST_THREADS for threads in self.threads):
            raise SettingsError(f"threads are 1 to {MOST_THREADS}; got {list(self.threads)}")
        if not set(self.precisions) <= set(PRECISIONS):
            raise SettingsError(f"precisions are of {', '.join(PRECISIONS)}; got {list(self.precisions)}")

    @classmethod
    def read(
        cls,
        runtimes: Sequence[str],
        *,
        threads: str = "1",
        kinds: str | None = None,
        strengths: str | None = None,
    ) -> Grid:
        """Return the grid of lists written with commas. Raises :class:`SettingsError`."""
        asked: dict[str, Any] = {"threads": tuple(map(int, _numbers("threads", threads, whole=True)))}
        if kinds is not None:
            asked["kinds"] = tuple(kind.strip() for kind in kinds.split(","))
        if strengths is not None:
            asked["strengths"] = tuple(_numbers("strengths", strengths))
        return cls(tuple(runtimes), **asked)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The whole network, with which all others are compared, and what is made of it."""
        smaller = (Variant(kind, s) for kind, s in product(self.kinds, sorted(self.strengths)) if s > 0)
        return (Variant(WHOLE, 0.0), *smaller)

    @property
    def files(self) -> tuple[File, ...]:
        """Every file, runtime by runtime."""
        every = product(self.runtimes, self.precisions, self.variants)
        return tuple(File(variant, runtime, precision) for runtime, precision, variant in every)

    def to_dict(self) -> dict[str, Any]:
        """Return the lists as JSON-ready values."""
        return {name: list(values) for name, values in asdict(self).items()}


def _numbers(name: str, text: str, *, whole: bool = False) -> list[float]:
    try:
        values = [float(int(part) if whole else float(part)) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        kind = "whole numbers" if whole else "numbers"
        raise SettingsError(f"{name} are {kind} with commas between them, such as 1,2; got {text!r:.100}")
    return values
