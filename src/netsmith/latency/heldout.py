"""How far predictions can be believed: networks that a model was not built from, predicted and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netsmith.errors import TableError

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predicted and measured latency of networks that the model was not built from, in milliseconds."""

    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    sd_ms: tuple[float, ...] = ()
    """The standard deviation of each, by the predictor's own account; none where it gives none."""

    @property
    def error(self) -> float:
        """The mean absolute error relative to what was measured: 0.03 is 3 %."""
        if not self.measured_ms:
            return 0.0
        predicted, measured = self._arrays()
        return float(np.mean(np.abs(predicted / measured - 1)))

    @property
    def rmse_ms(self) -> float:
        """The root of the mean squared error."""
        if not self.measured_ms:
            return 0.0
        predicted, measured = self._arrays()
        return float(np.sqrt(np.mean((predicted - measured) ** 2)))

    @property
    def spearman(self) -> float:
        """The correlation of the ranks; 0 where all of either are equal."""
        if len(self.measured_ms) < 2:
            return 0.0
        first, second = (_ranks(values) for values in self._arrays())
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            return 0.0
        return float(np.corrcoef(first, second)[0, 1])

    @property
    def within_two_sd(self) -> float:
        """The share of networks within two standard deviations of what was predicted: 0.95 is honest."""
        if not self.sd_ms:
            return 0.0
        predicted, measured = self._arrays()
        return float(np.mean(np.abs(predicted - measured) <= 2 * np.asarray(self.sd_ms)))

    def describe(self) -> str:
        """Say in a line how well latencies are predicted."""
        if not self.measured_ms:
            return "latency model: not checked, since the space has too few archs to hold any out"
        return (
            f"latency model: {100 * self.error:.1f} % mean error (RMSE {self.rmse_ms:.3g} ms, rank "
            f"correlation {self.spearman:.3f}) on {len(self.measured_ms)} networks that it was not built from"
            + (f", {100 * self.within_two_sd:.0f} % of them within two of its sd" if self.sd_ms else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the pairs as JSON-ready values."""
        return {
            "error": self.error,
            "rmse_ms": self.rmse_ms,
            "spearman": self.spearman,
            "within_two_sd": self.within_two_sd,
            "points": [
                {"predicted_ms": p, "measured_ms": m}
                for p, m in zip(self.predicted_ms, self.measured_ms, strict=True)
            ],
            "sd_ms": list(self.sd_ms),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeldOut:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on anything else."""
        try:
            pairs = [(float(p["predicted_ms"]), float(p["measured_ms"])) for p in data["points"]]
            sd = tuple(map(float, data["sd_ms"]))
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"not a held-out error: {data!r:.200} ({error})") from None
        if sd and len(sd) != len(pairs):
            raise TableError(f"a held-out error of {len(pairs)} networks has {len(sd)} standard deviations")
        return cls(tuple(p for p, _ in pairs), tuple(m for _, m in pairs), sd)

    def _arrays(self) -> tuple[Array, Array]:
        return np.asarray(self.predicted_ms), np.asarray(self.measured_ms)


def _ranks(values: Array) -> Array:
    """Rank values from 0; equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared: Array = ((ends - counts + ends - 1) / 2)[inverse]
    return shared
