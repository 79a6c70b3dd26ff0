"""Batch normalisation over (pixels, C) in float32, with or without ReLU6, and its gradient.

One launch each: sums over the pixels, a barrier, the figures of each channel, a barrier, one pass
that writes. Per-channel figures are kept in blocks of sixteen, the last overlapping the one before.
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
    mul,
    splat,
    store,
    store_float,
    sub,
)

SEGMENT = 256  # pixels summed before the sum joins the total: sums of sums lose fewer bits


@njit
def offset(block: int, channels: int) -> int:
    """Bytes from a pixel's first channel to the first of ``block``."""
    return 4 * min(block * LANES, channels - LANES)


@njit
def bounds(relu6: bool) -> tuple[Any, Any]:
    """What clamp() is to keep to: ReLU6's limits, or none."""
    if relu6:
        return splat(types.float32(0.0)), splat(types.float32(6.0))
    return splat(types.float32(-inf)), splat(types.float32(inf))


@njit
def flush(sums: int, totals: int, vectors: int) -> None:
    """Add ``sums`` to ``totals`` and set them to zero."""
    nothing = splat(types.float32(0.0))
    for i in range(vectors):
        store(totals + i * BYTES, add(load(totals + i * BYTES), load(sums + i * BYTES)))
        store(sums + i * BYTES, nothing)


@njit
def sum_moments(x: int, start: int, stop: int, channels: int, blocks: int, sums: int, totals: int) -> None:
    """Sums of x - x[0] and of its square over pixels start..stop; the shift saves the variance's bits."""
    pixel = 4 * channels
    for segment in range(start, stop, SEGMENT):
        end = min(segment + SEGMENT, stop)
        last = segment + (end - segment) // 4 * 4
        for p in range(segment, last, 4):
            for block in range(blocks):
                first = offset(block, channels)
                shift, at = load(x + first), x + p * pixel + first
                a, b = sub(load(at), shift), sub(load(at + pixel), shift)
                c, d = sub(load(at + 2 * pixel), shift), sub(load(at + 3 * pixel), shift)
                total, square = sums + block * BYTES, sums + (blocks + block) * BYTES
                store(total, add(load(total), add(add(a, b), add(c, d))))
                store(square, fma(a, a, fma(b, b, fma(c, c, fma(d, d, load(square))))))
        for p in range(last, end):
            for block in range(blocks):
                first = offset(block, channels)
                a = sub(load(x + p * pixel + first), load(x + first))
                total, square = sums + block * BYTES, sums + (blocks + block) * BYTES
                store(total, add(load(total), a))
                store(square, fma(a, a, load(square)))
        flush(sums, totals, 2 * blocks)


@njit
def sum_parts(scratch: int, parts: int, blocks: int, index: int) -> float:
    """Add what each thread left at float ``index`` of its totals."""
    total = 0.0
    for part in range(parts):
        total += types.float64(load_float(scratch + (part * 4 + 2) * blocks * BYTES + 4 * index))
    return total


@cache
def forward() -> Any:
    """Compile the forward pass.

    Arguments: pixels, C, x, y, gamma, beta, mean, 1 / deviation, running mean, running variance (or 0),
    scratch, eps, momentum, training, relu6. Without ``training`` the running figures are used.
    Scratch: four rows of blocks a thread, then two shared.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels, x, y = (
            argument(words, 0), argument(words, 1), argument(words, 2), argument(words, 3),
        )  # fmt: skip
        gamma, beta, mean, inverse = (
            argument(words, 4), argument(words, 5), argument(words, 6), argument(words, 7),
        )  # fmt: skip
        running_mean, running_var, scratch = argument(words, 8), argument(words, 9), argument(words, 10)
        eps, momentum = number(words, 11), number(words, 12)
        training = argument(words, 13) != 0
        blocks = (channels + LANES - 1) // LANES
        start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
        scale = scratch + 4 * threads * blocks * BYTES
        shift = scale + blocks * BYTES
        if training:
            sums = scratch + 4 * thread * blocks * BYTES
            zero(sums, 4 * blocks)
            sum_moments(x, start, stop, channels, blocks, sums, sums + 2 * blocks * BYTES)
            barrier(words)
        for block in range(thread, blocks, threads):
            first = offset(block, channels)
            for lane in range(LANES):
                at, index = first + 4 * lane, block * LANES + lane
                if training:
                    total = sum_parts(scratch, threads, blocks, index) / pixels
                    square = sum_parts(scratch, threads, blocks, blocks * LANES + index) / pixels
                    center = types.float64(load_float(x + at)) + total
                    variance = max(0.0, square - total * total)
                    # A block that overlaps its neighbour must not move the running figures twice.
                    if running_mean != 0 and at >= 4 * block * LANES:
                        old = load_float(running_mean + at)
                        store_float(running_mean + at, types.float32(old + momentum * (center - old)))
                        old = load_float(running_var + at)
                        unbiased = variance * pixels / max(1, pixels - 1)
                        store_float(running_var + at, types.float32(old + momentum * (unbiased - old)))
                else:
                    center = types.float64(load_float(running_mean + at))
                    variance = types.float64(load_float(running_var + at))
                factor = 1.0 / sqrt(variance + eps)
                store_float(mean + at, types.float32(center))
                store_float(inverse + at, types.float32(factor))
                factor *= load_float(gamma + at)
                store_float(scale + 4 * index, types.float32(factor))
                store_float(shift + 4 * index, types.float32(load_float(beta + at) - center * factor))
        barrier(words)
        low, high = bounds(argument(words, 14) != 0)
        for p in range(start, stop):
            for block in range(blocks):
                at = p * channels * 4 + offset(block, channels)
                value = fma(load(x + at), load(scale + block * BYTES), load(shift + block * BYTES))
                store(y + at, clamp(value, low, high))

    return run.address


@njit
def sum_gradients(
    x: int,
    dy: int,
    start: int,
    stop: int,
    channels: int,
    blocks: int,
    scale: int,
    shift: int,
    center: int,
    sums: int,
    totals: int,
    low: Any,
    high: Any,
) -> None:
    """Sums of the masked gradient g, and of g (x - mean), over pixels start..stop."""
    for segment in range(start, stop, SEGMENT):
        for p in range(segment, min(segment + SEGMENT, stop)):
            for block in range(blocks):
                at, row = p * channels * 4 + offset(block, channels), block * BYTES
                value = load(x + at)
                g = keep_inside(load(dy + at), fma(value, load(scale + row), load(shift + row)), low, high)
                total, product = sums + row, sums + blocks * BYTES + row
                store(total, add(load(total), g))
                store(product, fma(g, sub(value, load(center + row)), load(product)))
        flush(sums, totals, 2 * blocks)


@cache
def backward() -> Any:
    """Compile the gradient.

    Arguments: pixels, C, x, dy, dx (or 0), gamma, beta, mean, 1 / deviation, dgamma, dbeta (or 0),
    scratch, training, relu6. Scratch: four rows of blocks a thread, then five shared.
    With g the gradient inside ReLU6's limits: dbeta = sum g, dgamma = sum g (x - mean) / deviation,
    dx = gamma / deviation (g - dbeta / n - (x - mean) / deviation * dgamma / n).
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        pixels, channels, x, dy = (
            argument(words, 0), argument(words, 1), argument(words, 2), argument(words, 3),
        )  # fmt: skip
        dx, gamma, beta = argument(words, 4), argument(words, 5), argument(words, 6)
        mean, inverse = argument(words, 7), argument(words, 8)
        dgamma, dbeta, scratch = argument(words, 9), argument(words, 10), argument(words, 11)
        training = argument(words, 12) != 0
        blocks = (channels + LANES - 1) // LANES
        row = blocks * BYTES
        start, stop = pixels * thread // threads, pixels * (thread + 1) // threads
        scale = scratch + 4 * threads * row
        shift, center, slope, constant = scale + row, scale + 2 * row, scale + 3 * row, scale + 4 * row
        low, high = bounds(argument(words, 13) != 0)
        for block in range(thread, blocks, threads):
            first = offset(block, channels)
            factor = mul(load(inverse + first), load(gamma + first))
            middle = load(mean + first)
            store(scale + block * BYTES, factor)
            store(shift + block * BYTES, sub(load(beta + first), mul(middle, factor)))
            store(center + block * BYTES, middle)
        barrier(words)
        sums = scratch + 4 * thread * row
        zero(sums, 4 * blocks)
        sum_gradients(
            x, dy, start, stop, channels, blocks, scale, shift, center, sums, sums + 2 * row, low, high
        )
        barrier(words)
        for block in range(thread, blocks, threads):
            first = offset(block, channels)
            for lane in range(LANES):
                at, index = first + 4 * lane, block * LANES + lane
                total = sum_parts(scratch, threads, blocks, index)
                deviation = types.float64(load_float(inverse + at))
                product = sum_parts(scratch, threads, blocks, blocks * LANES + index) * deviation
                if dgamma != 0:
                    store_float(dgamma + at, types.float32(product))
                    store_float(dbeta + at, types.float32(total))
                factor = types.float64(load_float(scale + 4 * index)) / pixels if training else 0.0
                store_float(slope + 4 * index, types.float32(-factor * deviation * product))
                store_float(constant + 4 * index, types.float32(-factor * total))
        barrier(words)
        if dx != 0:
            for p in range(start, stop):
                for block in range(blocks):
                    at, line = p * channels * 4 + offset(block, channels), block * BYTES
                    value, factor = load(x + at), load(scale + line)
                    g = keep_inside(load(dy + at), fma(value, factor, load(shift + line)), low, high)
                    drift = fma(sub(value, load(center + line)), load(slope + line), load(constant + line))
                    store(dx + at, fma(g, factor, drift))

    return run.address
