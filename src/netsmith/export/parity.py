"""Proof that an exported file computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from netsmith.errors import ExportError

TOLERANCE = 1e-4

Array = np.ndarray[Any, np.dtype[Any]]


def check_parity(
    module: nn.Module,
    run: Callable[[Array], Array],
    images: Array,
    *,
    tolerance: float = TOLERANCE,
    batch_size: int = 64,
) -> float:
    """Return the worst absolute difference between the outputs of ``module`` and of ``run``.

    ``images`` is (N, C, H, W); ``run`` takes (n, C, H, W) and gives the exported file's (n, classes).
    Raises :class:`ExportError` where the difference is over ``tolerance`` times the largest output of
    the module (or times 1 if that is larger), where shapes differ, or an output is not finite.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    worst = scale = 0.0
    try:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            with torch.no_grad():
                expected = module(torch.from_numpy(batch).to(device)).cpu().numpy()
            difference, largest = _compare(expected, run(batch))
            worst, scale = max(worst, difference), max(scale, largest)
    finally:
        for layer, training in modes.items():
            layer.training = training
    allowed = tolerance * max(1.0, scale)
    if worst > allowed:
        raise ExportError(
            f"the exported file differs from the module by {worst:.2e} on {len(images)} images; "
            f"allowed is {allowed:.2e} (the largest output is {scale:.3g}). Do not deploy this file"
        )
    return worst


def _compare(expected: Array, got: Array) -> tuple[float, float]:
    """Return the worst difference and the largest expected value of one batch."""
    if expected.shape != got.shape:
        raise ExportError(
            f"the exported file gives outputs of {got.shape}; the module gives {expected.shape}"
        )
    if not np.isfinite(expected).all() or not np.isfinite(got).all():
        raise ExportError("an output is not a finite number: the network's weights are damaged")
    return float(np.abs(expected - got).max()), float(np.abs(expected).max())
