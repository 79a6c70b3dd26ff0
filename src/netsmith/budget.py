"""The budget: the limits that an answer must keep, and reading them as people write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from netsmith.errors import SettingsError

_SCALES = {
    "ms": {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3},
    "bytes": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "count": {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
}
_UNIT_OF = {
    "latency_ms": "ms",
    "peak_bytes": "bytes",
    "activation_bytes": "bytes",
    "size_bytes": "bytes",
    "macs": "count",
    "params": "count",
}


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits of an answer; ``None`` where there is no limit.

    ``latency_ms``: median milliseconds of one image on the device; the mean over images where each has a path
    of its own. ``peak_bytes``: the memory that the device's process takes over its idle state.
    ``activation_bytes``: the most that the activations of one image take at once, counted in the device's
    precision. ``size_bytes``: of the exported file. ``macs``: multiply-adds of one image. ``params``: learned
    numbers.
    """

    latency_ms: float | None = None
    peak_bytes: float | None = None
    activation_bytes: float | None = None
    size_bytes: float | None = None
    macs: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits().items():
            if not (math.isfinite(limit) and limit > 0):
                raise SettingsError(f"the budget's {name} must be a positive number; got {limit}")

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: float(limit) for name, limit in pairs if limit is not None}

    def broken(self, figures: Mapping[str, float]) -> str:
        """Say which limits ``figures`` breaks, or return ``""``; a figure that is absent breaks none."""
        return "; ".join(
            f"{name} {figures[name]:.6g} over the budget's {limit:.6g}"
            for name, limit in self.limits().items()
            if name in figures and not figures[name] <= limit  # not-a-number keeps no limit
        )

    def used(self, figures: Mapping[str, float]) -> float:
        """Return the greatest share of a limit that ``figures`` use up; 0 where none of them is limited."""
        limits = self.limits()
        return max((figures[name] / limit for name, limit in limits.items() if name in figures), default=0.0)


def read_quantity(text: str | float, name: str) -> float:
    """Read ``"0.2ms"``, ``"1MB"`` or ``"300M"`` as the number that the budget's ``name`` holds.

    A plain number is taken in the unit of the name itself. Raises :class:`SettingsError`.
    """
    scales = _SCALES[_UNIT_OF[name]]
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Z]*)\s*", str(text))
    try:
        if match is None:
            raise ValueError
        number = float(match[1])
        scale = scales[match[2]] if match[2] else 1.0
    except (ValueError, KeyError):
        units = ", ".join(unit for unit in scales if unit)
        example = next(unit for unit in ("ms", "MB", "M") if unit in scales)
        raise SettingsError(
            f"cannot read {text!r:.100} as {name}; write a number with one of the units {units}, "
            f"such as '2{example}'"
        ) from None
    if not number > 0:
        raise SettingsError(f"{name} must be greater than zero; got {text!r}")
    return number * scale
