"""Depthwise convolution over (N, H, W, C) in float32, and its two gradients.

Work goes image by image, sixteen channels at a time. The rows that a band of output rows needs are
first copied into a small buffer with a border of zeros: it stays in the nearest caches, and no inner
loop asks where the picture ends. Channels past a multiple of sixteen are covered by a last block that
overlaps the one before it and writes the same values again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import cfunc, njit, types

from netsmith.nn.kernels.frame import argument, team, zero
from netsmith.nn.kernels.simd import (
    BYTES,
    LANES,
    add,
    fma,
    get,
    load,
    load_float,
    put,
    registers,
    splat,
    store,
    store_float,
)

BAND_BYTES = 24 * 1024  # of the buffer: half of the first cache
TILE = 4  # output columns computed at once


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


@njit
def fill(
    buffer: int,
    width: int,
    rows: int,
    image: int,
    first_row: int,
    height: int,
    image_width: int,
    pixel: int,
    border: int,
) -> None:
    """Copy rows of sixteen channels into the buffer; the ones outside the image become zeros.

    Columns left and right of the image must be zero already.
    """
    for r in range(rows):
        row = first_row + r
        target = buffer + (r * width + border) * BYTES
        if row < 0 or row >= height:
            zero(target, image_width)
        else:
            source = image + row * image_width * pixel
            for column in range(image_width):
                store(target + column * BYTES, load(source + column * pixel))


@cache
def correlate(kernel: int, stride: int) -> Any:
    """Compile ``y = correlation of x with w``: the forward pass, and the input gradient at stride 1.

    Arguments: images, channels, H, W, out H, out W, x, w, y, scratch, bytes of scratch a thread, flip w.
    """
    K, S, P = kernel, stride, kernel // 2

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        x, weight, y = argument(words, 6), argument(words, 7), argument(words, 8)
        packed = argument(words, 9) + thread * argument(words, 10)
        blocks = (channels + LANES - 1) // LANES
        buffer = packed + blocks * K * K * BYTES
        pixel = channels * 4
        columns = ((out_width + TILE - 1) // TILE * TILE - 1) * S + K
        columns = max(columns, width + P)
        band = max(1, (BAND_BYTES // (columns * BYTES) - K) // S + 1)
        pack_weights(weight, packed, channels, K * K, argument(words, 11) != 0)
        zero(buffer, columns * ((min(band, out_height) - 1) * S + K))
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                source = x + n * height * width * pixel + first
                target = y + n * out_height * out_width * pixel + first
                weights = packed + block * K * K * BYTES
                for top in range(0, out_height, band):
                    rows = min(band, out_height - top)
                    fill(buffer, columns, (rows - 1) * S + K, source, top * S - P, height, width, pixel, P)
                    for r in range(rows):
                        out_row = target + (top + r) * out_width * pixel
                        for column in range(0, out_width, TILE):
                            a = b = c = d = splat(types.float32(0.0))
                            tile = buffer + (r * S * columns + column * S) * BYTES
                            for i in range(K):
                                for j in range(K):
                                    tap = load(weights + (i * K + j) * BYTES)
                                    at = tile + (i * columns + j) * BYTES
                                    a = fma(load(at), tap, a)
                                    b = fma(load(at + S * BYTES), tap, b)
                                    c = fma(load(at + 2 * S * BYTES), tap, c)
                                    d = fma(load(at + 3 * S * BYTES), tap, d)
                            out = out_row + column * pixel
                            store(out, a)
                            if column + 1 < out_width:
                                store(out + pixel, b)
                            if column + 2 < out_width:
                                store(out + 2 * pixel, c)
                            if column + 3 < out_width:
                                store(out + 3 * pixel, d)

    return run.address


@cache
def weight_gradient(kernel: int) -> Any:
    """Compile the weight gradient; each thread leaves its own sum, as (block, taps, 16), in ``partial``.

    Arguments: images, channels, H, W, out H, out W, x, dy, partial, scratch, bytes of it a thread, stride.
    Every image is summed by itself first: sums of sums lose fewer bits than one long sum.
    """
    K, P = kernel, kernel // 2
    G = {3: 3, 5: 5}.get(kernel, 1)  # kernel rows at once: as many sums as there are registers for

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        x, dy = argument(words, 6), argument(words, 7)
        blocks = (channels + LANES - 1) // LANES
        partial = argument(words, 8) + thread * blocks * K * K * BYTES
        buffer = argument(words, 9) + thread * argument(words, 10)
        S = argument(words, 11)
        pixel = channels * 4
        columns = max((out_width - 1) * S + K, width + P)
        band = max(1, (BAND_BYTES // (columns * BYTES) - K) // S + 1)
        zero(partial, blocks * K * K)
        zero(buffer, columns * ((min(band, out_height) - 1) * S + K))
        sums = registers()
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                source = x + n * height * width * pixel + first
                gradient = dy + n * out_height * out_width * pixel + first
                total = partial + block * K * K * BYTES
                for top in range(0, out_height, band):
                    rows = min(band, out_height - top)
                    fill(buffer, columns, (rows - 1) * S + K, source, top * S - P, height, width, pixel, P)
                    for group in range(0, K, G):
                        for i in range(G * K):
                            put(sums, i, splat(types.float32(0.0)))
                        for r in range(rows):
                            dy_row = gradient + (top + r) * out_width * pixel
                            row = buffer + (r * S + group) * columns * BYTES
                            for column in range(out_width):
                                g = load(dy_row + column * pixel)
                                for i in range(G):
                                    for j in range(K):
                                        value = load(row + (i * columns + column * S + j) * BYTES)
                                        put(sums, i * K + j, fma(value, g, get(sums, i * K + j)))
                        for i in range(G * K):
                            at = total + (group * K + i) * BYTES
                            store(at, add(load(at), get(sums, i)))

    return run.address


@cache
def gather_weight_gradient() -> Any:
    """Compile the sum of the threads' partial gradients into (C, taps).

    Arguments: threads, channels, taps, partial, dw.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        parts, channels, taps = argument(words, 0), argument(words, 1), argument(words, 2)
        partial, out = argument(words, 3), argument(words, 4)
        blocks = (channels + LANES - 1) // LANES
        for block in range(blocks):
            first = min(block * LANES, channels - LANES)
            for tap in range(taps):
                for lane in range(LANES):
                    total = types.float32(0.0)
                    for part in range(parts):
                        total += load_float(
                            partial + 4 * (((part * blocks + block) * taps + tap) * LANES + lane)
                        )
                    store_float(out + 4 * ((first + lane) * taps + tap), total)

    return run.address


@cache
def input_gradient_stride2() -> Any:
    """Compile the input gradient at stride 2, any kernel: each parity of row and column has its own taps.

    Arguments: images, channels, H, W, out H, out W, dy, w, dx, scratch, bytes of scratch a thread, kernel.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        dy, weight, dx = argument(words, 6), argument(words, 7), argument(words, 8)
        packed = argument(words, 9) + thread * argument(words, 10)
        K = argument(words, 11)
        P = K // 2
        blocks = (channels + LANES - 1) // LANES
        buffer = packed + blocks * K * K * BYTES
        pixel = channels * 4
        border = P // 2 + 1
        columns = max(out_width, ((width + 1) // 2 + TILE - 1) // TILE * TILE) + 2 * border + 1
        band = 2 * max(1, BAND_BYTES // (columns * BYTES) - P - 2)
        pack_weights(weight, packed, channels, K * K, False)
        zero(buffer, columns * (min(band, height + 1) // 2 + P + 2))
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                source = dy + n * out_height * out_width * pixel + first
                target = dx + n * height * width * pixel + first
                weights = packed + block * K * K * BYTES
                for top in range(0, height, band):
                    rows = min(band, height - top)
                    lowest = (top - P) // 2
                    fill(
                        buffer, columns, (rows + 1) // 2 + P + 1, source, lowest, out_height, out_width,
                        pixel, border,
                    )  # fmt: skip
                    for row in range(top, top + rows):
                        for odd in range(2):
                            for column in range(odd, width, 2 * TILE):
                                a = b = c = d = splat(types.float32(0.0))
                                for i in range((row + P) % 2, K, 2):
                                    above = (row + P - i) // 2 - lowest
                                    for j in range((odd + P) % 2, K, 2):
                                        tap = load(weights + (i * K + j) * BYTES)
                                        left = (column + P - j) // 2 + border
                                        at = buffer + (above * columns + left) * BYTES
                                        a = fma(load(at), tap, a)
                                        b = fma(load(at + BYTES), tap, b)
                                        c = fma(load(at + 2 * BYTES), tap, c)
                                        d = fma(load(at + 3 * BYTES), tap, d)
                                out = target + (row * width + column) * pixel
                                store(out, a)
                                if column + 2 < width:
                                    store(out + 2 * pixel, b)
                                if column + 4 < width:
                                    store(out + 4 * pixel, c)
                                if column + 6 < width:
                                    store(out + 6 * pixel, d)

    return run.address
