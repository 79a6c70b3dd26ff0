"""From blocks measured alone to whole networks: the correction, and how far it can be believed.

A block alone finds its weights in the cache and pays for handing over its input; in a network
neither holds. So a network's latency is fitted, on networks that were measured whole, as

    constant + sum over blocks of (scale + own_b) * alone_b + per_byte * weight_bytes_b

in which ``own_b``, a block's own departure from the common scale, is drawn towards 0 by a normal prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netsmith.errors import TableError

# Relative spread that the prior gives a block's departure, and that a measured network is known to.
# Tried from 0 to 0.4: 0.05 to 0.1 predict best at 28x28 and 32x32 alike.
_PRIOR, _NOISE = 0.05, 0.015
_LEAST_NETWORKS = 8

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Correction:
    """The fitted terms, in milliseconds (and milliseconds a byte); ``own`` by the key of the block."""

    constant_ms: float
    scale: float
    per_byte_ms: float
    own: Mapping[str, float] = field(default_factory=dict)

    def block_ms(self, key: str, alone_ms: float, weight_bytes: int) -> float:
        """Return what a block adds to a network, given its latency alone without the call."""
        factor = max(0.0, self.scale + self.own.get(key, 0.0))
        return factor * alone_ms + self.per_byte_ms * weight_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {
            "constant_ms": self.constant_ms,
            "scale": self.scale,
            "per_byte_ms": self.per_byte_ms,
            "own": dict(self.own),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Correction:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on anything else."""
        try:
            constant, scale, per_byte = (float(data[n]) for n in ("constant_ms", "scale", "per_byte_ms"))
            own = {str(key): float(value) for key, value in data["own"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TableError(f"not the correction of a latency model: {data!r:.200} ({error})") from None
        if not all(map(math.isfinite, (constant, scale, per_byte, *own.values()))):
            raise TableError("a correction of a latency model holds figures that are not finite")
        return cls(constant, scale, per_byte, own)


def fit(alone_ms: Array, weight_bytes: Array, measured_ms: Array, keys: Sequence[str]) -> Correction:
    """Fit the correction to networks that were measured whole.

    ``alone_ms`` is (networks, blocks): the latency alone of each block a network has, once for each
    time it has it, 0 where it has it not; ``weight_bytes`` and ``measured_ms`` are (networks,). Errors count
    relative to the latency. With few networks only the constant is fitted. Raises :class:`TableError`
    where latencies of networks do not grow with those of their blocks.
    """
    total = alone_ms.sum(1)
    if len(measured_ms) < _LEAST_NETWORKS:
        constant = float(np.median(measured_ms - total)) if len(measured_ms) else 0.0
        return Correction(constant, 1.0, 0.0)
    scale, per_byte, constant = _common_terms(total, weight_bytes, measured_ms)
    if scale <= 0:
        raise TableError(
            "whole networks do not take longer when their blocks do: the measurements cannot be right. "
            "Profile again on a quieter machine"
        )
    # Ridge regression of what remains, in its dual form: as many unknowns as networks.
    rest = measured_ms - (scale * total + per_byte * weight_bytes + constant)
    weighted = alone_ms * (scale * _PRIOR) ** 2
    kernel = weighted @ alone_ms.T + np.diag((_NOISE * measured_ms) ** 2)
    own = weighted.T @ np.linalg.solve(kernel, rest)
    return Correction(
        float(constant), float(scale), float(per_byte), {k: float(v) for k, v in zip(keys, own, strict=True)}
    )


def _common_terms(total: Array, weight_bytes: Array, measured_ms: Array) -> tuple[float, float, float]:
    """Return scale, latency a byte (from 0 up) and constant by least squares of relative errors."""
    ones = np.ones_like(total)
    columns = np.stack([total, weight_bytes / 1e6, ones], 1) / measured_ms[:, None]
    scale, per_megabyte, constant = np.linalg.lstsq(columns, ones, rcond=None)[0]
    if per_megabyte < 0 or np.ptp(weight_bytes) == 0:
        scale, constant = np.linalg.lstsq(columns[:, [0, 2]], ones, rcond=None)[0]
        per_megabyte = 0.0
    return scale, per_megabyte / 1e6, constant


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predicted and measured latency of networks that the model was not built from, in milliseconds."""

    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]

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

    def describe(self) -> str:
        """Say in a line how well latencies are predicted."""
        if not self.measured_ms:
            return "latency model: not checked, since the space has too few archs to hold any out"
        return (
            f"latency model: {100 * self.error:.1f} % mean error (RMSE {self.rmse_ms:.3g} ms, rank "
            f"correlation {self.spearman:.3f}) on {len(self.measured_ms)} networks that it was not built from"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the pairs as JSON-ready values."""
        return {
            "error": self.error,
            "rmse_ms": self.rmse_ms,
            "spearman": self.spearman,
            "points": [
                {"predicted_ms": p, "measured_ms": m}
                for p, m in zip(self.predicted_ms, self.measured_ms, strict=True)
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeldOut:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on anything else."""
        try:
            pairs = [(float(p["predicted_ms"]), float(p["measured_ms"])) for p in data["points"]]
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"not a held-out error: {data!r:.200} ({error})") from None
        return cls(tuple(p for p, _ in pairs), tuple(m for _, m in pairs))

    def _arrays(self) -> tuple[Array, Array]:
        return np.asarray(self.predicted_ms), np.asarray(self.measured_ms)


def _ranks(values: Array) -> Array:
    """Rank values from 0; equal ones share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared: Array = ((ends - counts + ends - 1) / 2)[inverse]
    return shared
