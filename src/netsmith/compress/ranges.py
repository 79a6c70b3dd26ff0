"""Where to clip a tensor before it is quantised: by its greatest, a percentile, squared error, or divergence.

All work on rows: a tensor as one row, or a weight (C, ...) as C rows, one a channel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netsmith.compress.quantizers import Levels, affine, checked_bits, symmetric
from netsmith.errors import CompressionError, nearest

PERCENTILE = 0.999
SHARES = 100  # of the greatest, that are tried as limits for the least squared error
BINS = 2048  # of a histogram at most, as TensorRT has them
SMOOTHED = 1e-4  # of a quantised distribution's mass
KL_BELOW = 5  # bits: HAQ's release clips by divergence below, and nowhere from there up

Array = npt.NDArray[np.float64]


def weight_limits(weight: Tensor, bits: int, method: str = "haq", *, per_channel: bool = False) -> Tensor:
    """Return c of weights that :func:`quantizers.symmetric` takes: (C,) per channel, otherwise (1,).

    ``method`` is ``max``, ``percentile`` (99.9 % of magnitudes), ``mse`` (the least squared error), ``kl``
    (the least divergence) or ``haq`` (``kl`` below 5 bits, else ``max``). Bits are 2..8.
    """
    checked_bits(bits, least=2)
    rows = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)

    def error(limits: Tensor) -> Tensor:
        return _squared(rows, symmetric(limits[:, None], bits))

    return _limits(rows.abs(), method, bits, 2 ** (bits - 1), error)


def activation_range(x: Tensor, bits: int, method: str = "haq") -> tuple[Tensor, Tensor]:
    """Return the range, two scalars, that :func:`quantizers.affine` takes: 0 and c where nothing is negative.

    Where it is, both its ends are clipped to the same c, which is found of magnitudes. ``method`` is as for
    weights; bits are 1..8.
    """
    checked_bits(bits)
    row = x.detach().reshape(1, -1)
    least, most = row.min().clamp_max(0), row.max().clamp_min(0)

    def clipped(limits: Tensor) -> tuple[Tensor, Tensor]:
        (limit,) = limits
        return torch.maximum(least, -limit), torch.minimum(most, limit)

    def error(limits: Tensor) -> Tensor:
        return _squared(row, affine(*clipped(limits), bits))

    magnitudes = 2**bits if least == 0 else max(2 ** (bits - 1), 2)
    return clipped(_limits(row.abs(), method, bits, magnitudes, error))


def _limits(
    rows: Tensor, method: str, bits: int, magnitudes: int, error: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return a limit for each of ``rows`` (R, N) of magnitudes, by the method's name."""
    if rows.numel() == 0 or not bool(torch.isfinite(rows).all()):
        raise CompressionError(
            "a range is found of finite numbers, at least one; mend the weights or the batch"
        )
    if method == "haq":
        method = "kl" if bits < KL_BELOW else "max"
    if method == "max":
        return rows.amax(1)
    if method == "percentile":
        return percentile_limits(rows, PERCENTILE)
    if method == "mse":
        return mse_limits(rows, error)
    if method == "kl":
        return kl_limits(rows, magnitudes)
    allowed = ("haq", "kl", "max", "mse", "percentile")
    raise CompressionError(
        f"ranges are found by one of {', '.join(allowed)}; got {method!r}{nearest(method, allowed)}"
    )


def percentile_limits(rows: Tensor, share: float) -> Tensor:
    """Return of each row (R, N) of magnitudes the least one that ``share`` of them do not exceed."""
    place = min(rows.shape[1], max(1, int(np.ceil(share * rows.shape[1]))))
    # Of sparse rows it may be 0, which would clip all there is.
    limits = rows.kthvalue(place, dim=1).values
    return torch.where(limits > 0, limits, rows.amax(1))


def mse_limits(rows: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    """Return of each row (R, N) of magnitudes the best of ``SHARES`` equal shares of its greatest.

    ``error`` maps limits (R,) to the rows' squared errors (R,).
    """
    most = rows.amax(1)
    best, least = most, error(most)
    for step in range(1, SHARES):
        limits = most * (1 - step / SHARES)
        errors = error(limits)
        best = torch.where(errors < least, limits, best)
        least = torch.minimum(errors, least)
    return best


def kl_limits(rows: Tensor, levels: int) -> Tensor:
    """Return of each row (R, N) of magnitudes the limit of the least KL divergence at ``levels`` levels."""
    limits = [_least_divergent(row, levels) for row in rows.double().cpu().numpy()]
    return torch.tensor(limits, dtype=rows.dtype, device=rows.device)


def _least_divergent(magnitudes: Array, levels: int) -> float:
    """Return the limit, an edge of the histogram, whose quantised distribution diverges least (Migacz 2017).

    As in HAQ's release there are as many bins as the root of the numbers. What is clipped counts in the last
    bin of the reference; the quantised distribution spreads each level's mass over its bins that are not
    empty. Zeros do not count: they are exact at any limit, and the many that a ReLU leaves would outweigh all
    else.
    """
    most = float(magnitudes.max())
    magnitudes = magnitudes[magnitudes > 0]
    bins = min(BINS, int(np.ceil(np.sqrt(len(magnitudes)))))
    if most == 0 or bins <= levels:
        return most
    counts, edges = np.histogram(magnitudes, bins, (0, most))
    divergences = [divergence(counts, kept, levels) for kept in range(levels, bins + 1)]
    return float(edges[levels + int(np.argmin(divergences))])


def divergence(counts: npt.NDArray[np.int64], kept: int, levels: int) -> float:
    """Return KL(P || Q) in nats for a histogram that is clipped to its first ``kept`` bins.

    P is the clipped histogram, with what was clipped in its last bin. Q is what ``levels`` levels know of it,
    of which ``SMOOTHED`` is spread over all bins: a number far out would otherwise never be clipped, for the
    bin that it falls to is empty in Q and the divergence infinite.
    """
    reference = counts[:kept].astype(float)
    starts = np.arange(levels) * kept // levels
    filled = reference > 0
    widths = np.add.reduceat(filled.astype(float), starts)
    means = np.add.reduceat(reference, starts) / np.maximum(widths, 1)
    spread = np.repeat(means, np.diff([*starts, kept])) * filled
    reference[-1] += counts[kept:].sum()
    p = reference / reference.sum()
    q = (1 - SMOOTHED) * spread / max(spread.sum(), 1.0) + SMOOTHED / kept
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _squared(rows: Tensor, levels: Levels) -> Tensor:
    return (rows - levels.nearest(rows)).square().sum(1)
