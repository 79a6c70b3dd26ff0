"""Fewer bits for a tensor: equally spaced levels and codebooks, and gradients straight through the rounding.

HAQ (Wang et al. 2019) has symmetric levels for weights, levels from 0 up for activations (section 3.4), and
k-means codebooks for weights where only size counts. Where to clip is found by ``ranges.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netsmith.errors import CompressionError

BITS = range(1, 9)
STARTS = 4  # of k-means, of which the best counts
FIRST_AMONG = 16384  # quantiles of the weights, among which k-means++ chooses where to begin
ROUNDS = 300

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """Equally spaced levels: the value of a code is ``scale * (code - zero)``, for codes ``low``..``high``.

    ``scale`` and ``zero`` are scalars, or of a shape that spreads over the tensor, one for each channel.
    """

    scale: Tensor
    zero: Tensor
    low: int
    high: int

    def codes(self, x: Tensor) -> Tensor:
        """Return the nearest level's code for each number (int16, the shape of x); half goes to the even."""
        return torch.clamp(torch.round(x / self.scale) + self.zero, self.low, self.high).to(torch.int16)

    def values(self, codes: Tensor) -> Tensor:
        """Return the number that each code stands for."""
        return self.scale * (codes - self.zero)

    def nearest(self, x: Tensor) -> Tensor:
        """Return the nearest level for each number, without a gradient: of ``codes`` the ``values``."""
        with torch.no_grad():
            places = torch.div(x, self.scale).round_()
            return places.clamp_(self.low - self.zero, self.high - self.zero).mul_(self.scale)


def symmetric(limit: Tensor, bits: int) -> Levels:
    """Return the levels of weights: s = c / (2^(b-1) - 1), codes -(2^(b-1) - 1) .. 2^(b-1) - 1 (equation 3).

    ``limit`` is c, a scalar or one for each channel in a shape that spreads over the weights. Bits are 2..8:
    with one bit there is no level but 0.
    """
    most = 2 ** (checked_bits(bits, least=2) - 1) - 1
    scale = _positive(limit) / most
    return Levels(scale, torch.zeros_like(scale), -most, most)


def affine(low: Tensor, high: Tensor, bits: int) -> Levels:
    """Return the 2^b levels from ``low`` <= 0 to ``high`` >= 0 of activations; 0 is one of them.

    With ``low`` = 0 these are HAQ's levels of what a ReLU gives: s = c / (2^b - 1). Otherwise both ends move
    by less than a level, so that padding with zeros stays exact. Bits are 1..8.
    """
    most = 2 ** checked_bits(bits) - 1
    if bool((low > 0).any()) or bool((high < 0).any()):
        raise CompressionError(
            f"a range of activations holds 0, as padding does; got {low.tolist()} to {high.tolist()}"
        )
    scale = _positive(high - low) / most
    return Levels(scale, torch.round(-low / scale), 0, most)


def channelwise(limits: Tensor, weight: Tensor) -> Tensor:
    """Return limits (C,) or (1,) in the shape that spreads over a weight (C, ...)."""
    return limits.reshape(-1, *[1] * (weight.ndim - 1))


def quantized_weight(weight: Tensor, levels: Levels) -> Tensor:
    """Return the nearest levels; the gradient is passed on as if nothing had been done, clipped ones' too."""
    return straight_through(weight, levels.nearest(weight))


def quantized_activation(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Return x clipped to ``low``..``high`` and brought to the nearest of the levels between.

    Gradients reach x where it was not clipped, and the end of the range where it was, which may therefore be
    learned (PACT, Choi et al. 2018, equation 3).
    """
    quantized: Tensor = _ClippedThrough.apply(x, low, high, bits)  # type: ignore[no-untyped-call]
    return quantized


def straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """Return ``quantized``, to the last bit, with the gradient of ``x`` (Bengio et al. 2013)."""
    passed: Tensor = _StraightThrough.apply(x, quantized)  # type: ignore[no-untyped-call]
    return passed


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor) -> Tensor:
        return quantized.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _ClippedThrough(torch.autograd.Function):
    """What clipping and :func:`straight_through` would give, and their gradients, in far fewer passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(x, low, high)
        return affine(low, high, bits).nearest(torch.clamp(x, low, high))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, low, high = ctx.saved_tensors
        below, above = x < low, x > high
        of_low, of_high = (
            (gradient * beyond).sum() if needed else None
            for beyond, needed in zip((below, above), ctx.needs_input_grad[1:3], strict=True)
        )
        return gradient.masked_fill(below.logical_or_(above), 0), of_low, of_high, None


@dataclass(frozen=True)
class Codebook:
    """At most 2^b values that all weights of a tensor share: ``centroids`` (K,), rising, and a code each."""

    centroids: Tensor
    codes: Tensor

    def values(self) -> Tensor:
        """Return the weights that the codes stand for, in the shape of ``codes``."""
        return self.centroids[self.codes.long()]


def clustered(weight: Tensor, bits: int, seed: int = 0) -> Codebook:
    """Return the codebook of at most 2^bits centroids that k-means finds, the best of ``STARTS``.

    Each start is k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's rounds over the sorted weights,
    where a cluster is a stretch and its mean a difference of running sums. Bits are 1..8. The same seed gives
    the same codebook.
    """
    checked_bits(bits)
    values = np.sort(weight.detach().double().flatten().cpu().numpy())
    distinct = np.unique(values)
    if len(distinct) <= 2**bits:
        centroids = distinct
    else:
        among = np.quantile(values, np.linspace(0, 1, FIRST_AMONG)) if len(values) > FIRST_AMONG else values
        found = [_lloyd(values, _first(among, 2**bits, seed * STARTS + start)) for start in range(STARTS)]
        centroids = min(found, key=lambda found: _spread(values, found))
    kept = torch.from_numpy(centroids).to(weight.device, weight.dtype)
    middles = torch.from_numpy((centroids[1:] + centroids[:-1]) / 2).to(weight.device)
    codes = torch.bucketize(weight.detach().double().contiguous(), middles)
    return Codebook(kept, codes.to(torch.int16))


def shared_weight(weight: Tensor, codes: Tensor, size: int) -> Tensor:
    """Return every weight replaced by the mean of those of its code; ``size`` is how many codes there are.

    The gradient of a weight is the mean over its cluster, so that a step of gradient descent moves centroids
    as HAQ's fine-tuning does, which replaces each cluster by its mean after the step.
    """
    flat = codes.flatten().long()
    counts = torch.bincount(flat, minlength=size).clamp_min(1).to(weight.dtype)
    sums = torch.zeros(size, dtype=weight.dtype, device=weight.device).index_add(0, flat, weight.flatten())
    return (sums / counts)[flat].reshape(weight.shape)


def checked_bits(bits: int, least: int = 1) -> int:
    """Return ``bits``; raise :class:`CompressionError` where they are not ``least``..8."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= BITS[-1]:
        raise CompressionError(f"bits are whole numbers {least}..{BITS[-1]}; got {bits!r}")
    return bits


def _positive(span: Tensor) -> Tensor:
    """Return the span, 1 where it is 0: any levels hold a tensor of zeros."""
    return torch.where(span > 0, span, torch.ones_like(span))


def _first(values: Array, size: int, seed: int) -> Array:
    from sklearn.cluster import kmeans_plusplus

    centres, _ = kmeans_plusplus(values[:, None], size, random_state=seed)
    return np.unique(centres)


def _lloyd(values: Array, centroids: Array) -> Array:
    """Return where Lloyd's rounds end over sorted values; centroids with nothing near are dropped."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(ROUNDS):
        ends = _ends(values, centroids)
        counts = np.diff(ends)
        moved = np.diff(running[ends])[counts > 0] / counts[counts > 0]
        if len(moved) == len(centroids) and np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _ends(values: Array, centroids: Array) -> npt.NDArray[np.int64]:
    """Return where each centroid's stretch of the sorted values begins, and the end of the last, (K + 1,)."""
    middles = (centroids[1:] + centroids[:-1]) / 2
    return np.concatenate([[0], np.searchsorted(values, middles, side="right"), [len(values)]])


def _spread(values: Array, centroids: Array) -> float:
    """Return the summed squared distance of sorted values from their centroids."""
    counts = np.diff(_ends(values, centroids))
    return float(((values - np.repeat(centroids, counts)) ** 2).sum())
