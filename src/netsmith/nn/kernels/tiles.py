"""The pieces that depthwise kernels are made of: bordered buffers of sixteen channels, and loops over them.

Every function is compiled into the kernel that calls it, where ``k`` (the kernel's size), ``s`` (its stride)
and ``together`` are constants, so that the innermost loops are unrolled and their sums stay in registers.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types

from netsmith.nn.kernels.frame import zero
from netsmith.nn.kernels.norm import bounds
from netsmith.nn.kernels.simd import (
    BYTES,
    LANES,
    add,
    clamp,
    fma,
    get,
    keep_inside,
    load,
    load_float,
    put,
    splat,
    store,
    store_float,
    sub,
)

BAND_BYTES = 24 * 1024  # of a buffer: half of the first cache
TILE = 4  # columns computed at once


@njit
def pack_weights(weight: int, packed: int, channels: int, taps: int, flip: bool) -> None:
    """(C, taps) into (block, taps, 16), backwards where ``flip``."""
    blocks = (channels + LANES - 1) // LANES
    for block in range(blocks):
        first = min(block * LANES, channels - LANES)
        for tap in range(taps):
            source = taps - 1 - tap if flip else tap
            for lane in range(LANES):
                store_float(
                    packed + 4 * ((block * taps + tap) * LANES + lane),
                    load_float(weight + 4 * ((first + lane) * taps + source)),
                )


@njit(forceinline=True)
def band_rows(columns: int, stride: int, k: int) -> int:
    """Output rows whose input rows fill a buffer."""
    return max(1, (BAND_BYTES // (columns * BYTES) - k) // stride + 1)


@njit
def fill(
    buffer: int, columns: int, count: int, image: int, first_row: int, height: int, width: int, pixel: int,
    border: int, rows: int, line: int,
) -> None:  # fmt: skip
    """Copy ``count`` image rows into the buffer; the ones outside the image become zeros.

    With ``rows`` (else 0) each value is normalised and goes through ReLU6 on its way. The columns left and
    right of the image must be zero already.
    """
    low, high = bounds(1)
    for r in range(count):
        row, target = first_row + r, buffer + (r * columns + border) * BYTES
        source = image + row * width * pixel
        if row < 0 or row >= height:
            zero(target, width)
        elif rows == 0:
            for column in range(width):
                store(target + column * BYTES, load(source + column * pixel))
        else:
            factor, shift = load(rows), load(rows + line)
            for column in range(width):
                value = fma(load(source + column * pixel), factor, shift)
                store(target + column * BYTES, clamp(value, low, high))


@njit
def fill_gradient(
    buffer: int, columns: int, count: int, x: int, dy: int, first_row: int, height: int, width: int,
    pixel: int, border: int, rows: int, slopes: int, line: int,
) -> None:  # fmt: skip
    """As :func:`fill`, with the gradient of the batch norm and ReLU6 that took ``x`` and are given ``dy``."""
    low, high = bounds(1)
    factor, shift, center = load(rows), load(rows + line), load(rows + 2 * line)
    a, b = load(slopes), load(slopes + line)
    for r in range(count):
        row, target = first_row + r, buffer + (r * columns + border) * BYTES
        if row < 0 or row >= height:
            zero(target, width)
        else:
            source = row * width * pixel
            for column in range(width):
                here = source + column * pixel
                value = load(x + here)
                g = keep_inside(load(dy + here), fma(value, factor, shift), low, high)
                store(target + column * BYTES, fma(g, factor, fma(sub(value, center), a, b)))


@njit(forceinline=True)
def correlate_row(
    out: int, source: int, columns: int, weights: int, width: int, pixel: int, k: int, s: int
) -> None:
    """Write one output row; ``source`` is the buffer's row of its first tap."""
    for column in range(0, width, TILE):
        a = b = c = d = splat(types.float32(0.0))
        tile = source + column * s * BYTES
        for i in range(k):
            for j in range(k):
                tap = load(weights + (i * k + j) * BYTES)
                at = tile + (i * columns + j) * BYTES
                a = fma(load(at), tap, a)
                b = fma(load(at + s * BYTES), tap, b)
                c = fma(load(at + 2 * s * BYTES), tap, c)
                d = fma(load(at + 3 * s * BYTES), tap, d)
        here = out + column * pixel
        store(here, a)
        if column + 1 < width:
            store(here + pixel, b)
        if column + 2 < width:
            store(here + 2 * pixel, c)
        if column + 3 < width:
            store(here + 3 * pixel, d)


@njit(forceinline=True)
def leave(value: Any, out: int, x: int, rows: int, line: int, sums: int) -> None:
    """Store a gradient, or with ``x`` (else 0) what of it passes the ReLU6 before, added to the sums."""
    if x == 0:
        store(out, value)
    else:
        low, high = bounds(1)
        before = load(x)
        g = keep_inside(value, fma(before, load(rows), load(rows + line)), low, high)
        store(out, g)
        store(sums, add(load(sums), g))
        store(sums + line, fma(g, sub(before, load(rows + 2 * line)), load(sums + line)))


@njit(forceinline=True)
def gradient_row(
    out: int, buffer: int, columns: int, lowest: int, border: int, row: int, width: int, pixel: int,
    weights: int, x: int, rows: int, line: int, sums: int, k: int, s: int,
) -> None:  # fmt: skip
    """Write one row of the input gradient, from a buffer of dy whose first row is row ``lowest`` of dy.

    At stride 2 each parity of row and column has taps of its own.
    """
    p = k // 2
    step = s * pixel
    for odd in range(s):
        for column in range(odd, width, s * TILE):
            a = b = c = d = splat(types.float32(0.0))
            for i in range((row + p) % s, k, s):
                above = (row + p - i) // s - lowest
                for j in range((odd + p) % s, k, s):
                    tap = load(weights + (i * k + j) * BYTES)
                    at = buffer + (above * columns + (column + p - j) // s + border) * BYTES
                    a = fma(load(at), tap, a)
                    b = fma(load(at + BYTES), tap, b)
                    c = fma(load(at + 2 * BYTES), tap, c)
                    d = fma(load(at + 3 * BYTES), tap, d)
            here, before = out + column * pixel, x + column * pixel if x != 0 else 0
            ahead = step if x != 0 else 0
            leave(a, here, before, rows, line, sums)
            if column + s < width:
                leave(b, here + step, before + ahead, rows, line, sums)
            if column + 2 * s < width:
                leave(c, here + 2 * step, before + 2 * ahead, rows, line, sums)
            if column + 3 * s < width:
                leave(d, here + 3 * step, before + 3 * ahead, rows, line, sums)


@njit(forceinline=True)
def add_products(
    total: int, room: Any, buffer: int, columns: int, dy: int, dy_row: int, dy_pixel: int, count: int,
    width: int, k: int, s: int, together: int,
) -> None:  # fmt: skip
    """Add to the (taps, 16) at ``total`` the products of x in the buffer with ``count`` rows of dy.

    ``dy_row`` and ``dy_pixel`` are the bytes from one row and pixel of dy to the next. ``together`` kernel
    rows are summed at once: as many as there are registers for.
    """
    for group in range(0, k, together):
        for i in range(together * k):
            put(room, i, splat(types.float32(0.0)))
        for r in range(count):
            row = buffer + (r * s + group) * columns * BYTES
            for column in range(width):
                g = load(dy + r * dy_row + column * dy_pixel)
                for i in range(together):
                    for j in range(k):
                        value = load(row + (i * columns + column * s + j) * BYTES)
                        put(room, i * k + j, fma(value, g, get(room, i * k + j)))
        for i in range(together * k):
            at = total + (group * k + i) * BYTES
            store(at, add(load(at), get(room, i)))
