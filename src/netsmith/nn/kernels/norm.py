"""Batch normalisation over (pixels, C) in float32, with or without ReLU6 or ReLU, and its gradient.

Forward is :func:`measure` and :func:`apply`, backward :func:`gather` and :func:`spread`: each pair first
sums over the pixels, then writes. What belongs to a channel stands in rows of blocks of sixteen, the last
overlapping the one before. Four rows say how x was normalised: gamma / deviation; beta - mean gamma /
deviation; mean; 1 / deviation.
"""

from __future__ import annotations

from functools import cache
from math import inf, sqrt
from typing import Any

from numba import cfunc, njit, types

from netsmith.nn.kernels.frame import argument, barrier, number, team, zero
from netsmith.nn.kernels.simd import (
    BYTES,
    LANES,
    add,
    clamp,
    fma,
    keep_inside,
    load,
    load_float,
    splat,
    store,
    store_float,
    sub,
)

TOGETHER = 4  # pixels that share the loading of a channel's figures
SEGMENT = 256  # pixels summed before the sum joins the total: sums of sums lose fewer bits


@njit
def offset(block: int, channels: int) -> int:
    """Bytes from a pixel's first channel to the first of ``block``."""
    return 4 * min(block * LANES, channels - LANES)


@njit
def bounds(activation: int) -> tuple[Any, Any]:
    """What clamp() is to keep to: none for 0, ReLU6's limits for 1, ReLU's for 2."""
    low, high = types.float32(-inf), types.float32(inf)
    if activation != 0:
        low = types.float32(0.0)
    if activation == 1:
        high = types.float32(6.0)
    return splat(low), splat(high)


@njit
def flush(sums: int, totals: int, vectors: int) -> None:
    """Add ``sums`` to ``totals`` and set them to zero."""
    nothing = splat(types.float32(0.0))
    for i in range(vectors):
        store(totals + i * BYTES, add(load(totals + i * BYTES), load(sums + i * BYTES)))
        store(sums + i * BYTES, nothing)


@njit
def add_moments(x: int, p: int, count: int, channels: int, blocks: int, sums: int) -> None:
    """Add x - x[0] and its square over ``count`` pixels from ``p`` on.

    The shift saves bits of the variance.
    """
    for block in range(blocks):
        first = offset(block, channels)
        at, shift = x + p * channels * 4 + first, load(x + first)
        total, square = sums + block * BYTES, sums + (blocks + block) * BYTES
        a, b = load(total), load(square)
        for q in range(count):
            value = sub(load(at + q * channels * 4), shift)
            a, b = add(a, value), fma(value, value, b)
        store(total, a)
        store(square, b)


@njit
def sum_moments(x: int, start: int, stop: int, channels: int, blocks: int, sums: int, totals: int) -> None:
    """Leave in ``totals`` what :func:`add_moments` gives over pixels start..stop."""
    for segment in range(start, stop, SEGMENT):
        end = min(segment + SEGMENT, stop)
        last = segment + (end - segment) // TOGETHER * TOGETHER
        for p in range(segment, last, TOGETHER):
            add_moments(x, p, TOGETHER, channels, blocks, sums)
        for p in range(last, end):
            add_moments(x, p, 1, channels, blocks, sums)
        flush(sums, totals, 2 * blocks)


@njit
def normalise(
    x: int, y: int, p: int, count: int, channels: int, blocks: int, rows: int, low: Any, high: Any
) -> None:
    """Write ``count`` pixels from ``p`` on."""
    for block in range(blocks):
        at = p * channels * 4 + offset(block, channels)
        factor, shift = load(rows + block * BYTES), load(rows + (blocks + block) * BYTES)
        for q in range(count):
            here = at + q * channels * 4
            store(y + here, clamp(fma(load(x + here), factor, shift), low, high))


@njit
def sum_parts(scratch: int, parts: int, blocks: int, index: int) -> float:
    """Add what each thread left at float ``index`` of its totals."""
    total = 0.0
    for part in range(parts):
        total += types.float64(load_float(scratch + (part * 4 + 2) * blocks * BYTES + 4 * index))
    return total


@cache
def measure() -> Any:
    """Compile the first half of the forward pass: the four rows, and the moving of the running figures.

    Arguments: pixels, C, x, gamma, beta, running mean, running variance, rows, scratch, eps, momentum,
    training. Without ``training`` x is not read. Scratch: four rows a thread.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels, x = argument(words, 0), argument(words, 1), argument(words, 2)
        gamma, beta = argument(words, 3), argument(words, 4)
        running_mean, running_var = argument(words, 5), argument(words, 6)
        rows, scratch = argument(words, 7), argument(words, 8)
        eps, momentum = number(words, 9), number(words, 10)
        training = argument(words, 11) != 0
        blocks = (channels + LANES - 1) // LANES
        line = blocks * BYTES
        if training:
            start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
            sums = scratch + 4 * thread * line
            zero(sums, 4 * blocks)
            sum_moments(x, start, stop, channels, blocks, sums, sums + 2 * line)
            barrier(words)
        for block in range(thread, blocks, threads):
            for lane in range(LANES):
                at, index = offset(block, channels) + 4 * lane, block * LANES + lane
                old_mean = types.float64(load_float(running_mean + at))
                old_variance = types.float64(load_float(running_var + at))
                mean, variance = old_mean, old_variance
                if training:
                    total = sum_parts(scratch, threads, blocks, index) / pixels
                    square = sum_parts(scratch, threads, blocks, blocks * LANES + index) / pixels
                    mean = types.float64(load_float(x + at)) + total
                    variance = max(0.0, square - total * total)
                    # A block that overlaps its neighbour must not move the running figures twice.
                    if at >= 4 * block * LANES:
                        unbiased = variance * pixels / max(1, pixels - 1)
                        moved = old_mean + momentum * (mean - old_mean)
                        store_float(running_mean + at, types.float32(moved))
                        moved = old_variance + momentum * (unbiased - old_variance)
                        store_float(running_var + at, types.float32(moved))
                inverse = 1.0 / sqrt(variance + eps)
                scale = inverse * load_float(gamma + at)
                row = rows + 4 * index
                store_float(row, types.float32(scale))
                store_float(row + line, types.float32(load_float(beta + at) - mean * scale))
                store_float(row + 2 * line, types.float32(mean))
                store_float(row + 3 * line, types.float32(inverse))

    return run.address


@cache
def apply() -> Any:
    """Compile the second half of the forward pass. Arguments: pixels, C, x, y, rows, activation."""

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels = argument(words, 0), argument(words, 1)
        x, y, rows = argument(words, 2), argument(words, 3), argument(words, 4)
        blocks = (channels + LANES - 1) // LANES
        start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
        low, high = bounds(argument(words, 5))
        last = start + (stop - start) // TOGETHER * TOGETHER
        for p in range(start, last, TOGETHER):
            normalise(x, y, p, TOGETHER, channels, blocks, rows, low, high)
        for p in range(last, stop):
            normalise(x, y, p, 1, channels, blocks, rows, low, high)

    return run.address


@njit
def add_gradients(
    x: int, dy: int, p: int, count: int, channels: int, blocks: int, rows: int, sums: int, low: Any, high: Any
) -> None:
    """Add the masked gradient g, and g (x - mean), over ``count`` pixels from ``p`` on."""
    for block in range(blocks):
        at = p * channels * 4 + offset(block, channels)
        row, line = rows + block * BYTES, blocks * BYTES
        total = sums + block * BYTES
        factor, shift, center = load(row), load(row + line), load(row + 2 * line)
        a, b = load(total), load(total + line)
        for q in range(count):
            here = at + q * channels * 4
            value = load(x + here)
            g = keep_inside(load(dy + here), fma(value, factor, shift), low, high)
            a, b = add(a, g), fma(g, sub(value, center), b)
        store(total, a)
        store(total + line, b)


@njit
def sum_gradients(
    x: int, dy: int, start: int, stop: int, channels: int, blocks: int, rows: int, sums: int, totals: int,
    low: Any, high: Any,
) -> None:  # fmt: skip
    """Leave in ``totals`` what :func:`add_gradients` gives over pixels start..stop."""
    for segment in range(start, stop, SEGMENT):
        end = min(segment + SEGMENT, stop)
        last = segment + (end - segment) // TOGETHER * TOGETHER
        for p in range(segment, last, TOGETHER):
            add_gradients(x, dy, p, TOGETHER, channels, blocks, rows, sums, low, high)
        for p in range(last, end):
            add_gradients(x, dy, p, 1, channels, blocks, rows, sums, low, high)
        flush(sums, totals, 2 * blocks)


@njit
def write_gradient(
    x: int, dy: int, dx: int, p: int, count: int, channels: int, blocks: int, rows: int, slopes: int,
    low: Any, high: Any,
) -> None:  # fmt: skip
    """Write dx of ``count`` pixels from ``p`` on."""
    for block in range(blocks):
        at = p * channels * 4 + offset(block, channels)
        row, line, slope = rows + block * BYTES, blocks * BYTES, slopes + block * BYTES
        factor, shift, center = load(row), load(row + line), load(row + 2 * line)
        a, b = load(slope), load(slope + line)
        for q in range(count):
            here = at + q * channels * 4
            value = load(x + here)
            g = keep_inside(load(dy + here), fma(value, factor, shift), low, high)
            store(dx + here, fma(g, factor, fma(sub(value, center), a, b)))


@cache
def gather() -> Any:
    """Compile the first half of the gradient.

    With g the gradient dy inside the activation's limits: dbeta = sum g, dgamma = sum g (x - mean) /
    deviation, and two rows of slopes a, b such that dx = gamma / deviation g + a (x - mean) + b: zeros out
    of training.
    Arguments: pixels, C, x, dy (or 0: the scratch holds the sums), rows, slopes, dgamma (or 0), dbeta,
    scratch, training, activation. Scratch: four rows a thread, of which the last two hold the sums.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels = argument(words, 0), argument(words, 1)
        x, dy, rows, slopes = (
            argument(words, 2), argument(words, 3), argument(words, 4), argument(words, 5),
        )  # fmt: skip
        dgamma, dbeta, scratch = argument(words, 6), argument(words, 7), argument(words, 8)
        training = argument(words, 9) != 0
        blocks = (channels + LANES - 1) // LANES
        line = blocks * BYTES
        if dy != 0:
            start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
            low, high = bounds(argument(words, 10))
            sums = scratch + 4 * thread * line
            zero(sums, 4 * blocks)
            sum_gradients(x, dy, start, stop, channels, blocks, rows, sums, sums + 2 * line, low, high)
            barrier(words)
        for block in range(thread, blocks, threads):
            for lane in range(LANES):
                at, index = offset(block, channels) + 4 * lane, block * LANES + lane
                inverse = types.float64(load_float(rows + 3 * line + 4 * index))
                total = sum_parts(scratch, threads, blocks, index)
                product = sum_parts(scratch, threads, blocks, blocks * LANES + index) * inverse
                if dgamma != 0:
                    store_float(dgamma + at, types.float32(product))
                    store_float(dbeta + at, types.float32(total))
                factor = types.float64(load_float(rows + 4 * index)) / pixels if training else 0.0
                store_float(slopes + 4 * index, types.float32(-factor * inverse * product))
                store_float(slopes + line + 4 * index, types.float32(-factor * total))

    return run.address


@cache
def spread() -> Any:
    """Compile the second half of the gradient. Arguments: pixels, C, x, dy, dx, rows, slopes, activation."""

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels = argument(words, 0), argument(words, 1)
        x, dy, dx = argument(words, 2), argument(words, 3), argument(words, 4)
        rows, slopes = argument(words, 5), argument(words, 6)
        blocks = (channels + LANES - 1) // LANES
        start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
        low, high = bounds(argument(words, 7))
        last = start + (stop - start) // TOGETHER * TOGETHER
        for p in range(start, last, TOGETHER):
            write_gradient(x, dy, dx, p, TOGETHER, channels, blocks, rows, slopes, low, high)
        for p in range(last, stop):
            write_gradient(x, dy, dx, p, 1, channels, blocks, rows, slopes, low, high)

    return run.address
