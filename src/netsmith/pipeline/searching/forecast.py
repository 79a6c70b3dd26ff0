"""What networks should take by what others took: enough to pass over those that are far over a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST = 6  # networks that must have been measured
_RIDGE = 1e-3


class Forecast:
    """A latency as a sum over features, fitted to every network that was measured so far."""

    def __init__(self) -> None:
        self._features: list[list[float]] = []
        self._ms: list[float] = []

    def add(self, features: Sequence[float], latency_ms: float) -> None:
        """Learn what a network took; nothing of one without features."""
        if features and list(features) not in self._features:
            self._features.append(list(features))
            self._ms.append(latency_ms)

    def over(self, features: Sequence[float], limit_ms: float) -> bool:
        """Whether a network should take more than a limit; False where too little is known."""
        if not features or len(self._ms) < LEAST:
            return False
        rows = np.column_stack([np.ones(len(self._ms)), np.array(self._features)])
        # Weighed by 1 / ms, so that what is far over the limit does not outweigh what is near it.
        weights = 1 / np.array(self._ms)
        scaled = rows * weights[:, None]
        scales = np.sqrt((scaled**2).mean(0)) + 1e-12
        scaled = scaled / scales
        gram = scaled.T @ scaled + _RIDGE * len(scaled) * np.eye(scaled.shape[1])
        fitted = np.linalg.solve(gram, scaled.T @ np.ones(len(scaled))) / scales
        return float(np.concatenate([[1.0], features]) @ fitted) > limit_ms
