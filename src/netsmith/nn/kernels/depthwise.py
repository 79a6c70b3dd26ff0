"""Depthwise convolution over (N, H, W, C) in float32, and its two gradients.

Work goes image by image, sixteen channels at a time. The rows that a band of output rows needs are
first copied into a small buffer with a border of zeros: it stays in the nearest caches, and no inner
loop asks where the picture ends. Channels past a multiple of sixteen are covered by a last block that
overlaps the one before it and writes the same values again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import cfunc, types

from netsmith.nn.kernels.frame import argument, team, zero
from netsmith.nn.kernels.simd import BYTES, LANES, load_float, registers, store_float
from netsmith.nn.kernels.tiles import (
    BAND_BYTES,
    TILE,
    add_products,
    band_rows,
    correlate_row,
    fill,
    gradient_row,
    pack_weights,
)

GROUPS = {3: 3, 5: 5, 7: 1}  # kernel rows of the weight gradient summed at once


@cache
def correlate(kernel: int, stride: int) -> Any:
    """Compile ``y = correlation of x with w``: the forward pass, and the input gradient at stride 1.

    Arguments: images, channels, H, W, out H, out W, x, w, y, scratch, bytes of scratch a thread, flip w,
    rows (or 0) by which x is normalised and put through ReLU6 first.
    """
    K, S, P = kernel, stride, kernel // 2

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        x, weight, y = argument(words, 6), argument(words, 7), argument(words, 8)
        packed, figures = argument(words, 9) + thread * argument(words, 10), argument(words, 12)
        blocks = (channels + LANES - 1) // LANES
        line = blocks * BYTES
        buffer = packed + K * K * line
        pixel = channels * 4
        columns = max(((out_width + TILE - 1) // TILE * TILE - 1) * S + K, width + P)
        band = band_rows(columns, S, K)
        pack_weights(weight, packed, channels, K * K, argument(words, 11) != 0)
        zero(buffer, columns * ((min(band, out_height) - 1) * S + K))
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                source = x + n * height * width * pixel + first
                target = y + n * out_height * out_width * pixel + first
                weights = packed + block * K * K * BYTES
                rows = figures + block * BYTES if figures != 0 else 0
                for top in range(0, out_height, band):
                    count = min(band, out_height - top)
                    fill(
                        buffer, columns, (count - 1) * S + K, source, top * S - P, height, width, pixel, P,
                        rows, line,
                    )  # fmt: skip
                    for r in range(count):
                        out = target + (top + r) * out_width * pixel
                        start = buffer + r * S * columns * BYTES
                        correlate_row(out, start, columns, weights, out_width, pixel, K, S)

    return run.address


@cache
def weight_gradient(kernel: int) -> Any:
    """Compile the weight gradient; each thread leaves its own sum, as (block, taps, 16), in ``partial``.

    Arguments: images, channels, H, W, out H, out W, x, dy, partial, scratch, bytes of it a thread, stride.
    Every band is summed by itself first: sums of sums lose fewer bits than one long sum.
    """
    K, P, G = kernel, kernel // 2, GROUPS[kernel]

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
        band = band_rows(columns, S, K)
        zero(partial, blocks * K * K)
        zero(buffer, columns * ((min(band, out_height) - 1) * S + K))
        room = registers()
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                source = x + n * height * width * pixel + first
                gradient = dy + n * out_height * out_width * pixel + first
                total = partial + block * K * K * BYTES
                for top in range(0, out_height, band):
                    count = min(band, out_height - top)
                    fill(
                        buffer, columns, (count - 1) * S + K, source, top * S - P, height, width, pixel, P,
                        0, 0,
                    )  # fmt: skip
                    add_products(
                        total, room, buffer, columns, gradient + top * out_width * pixel, out_width * pixel,
                        pixel, count, out_width, K, S, G,
                    )  # fmt: skip

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
    """Compile the input gradient at stride 2, any kernel.

    Arguments: images, channels, H, W, out H, out W, dy, w, dx, scratch, bytes of scratch a thread, kernel.
    """

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        dy, weight, dx = argument(words, 6), argument(words, 7), argument(words, 8)
        packed, K = argument(words, 9) + thread * argument(words, 10), argument(words, 11)
        P = K // 2
        blocks = (channels + LANES - 1) // LANES
        buffer = packed + blocks * K * K * BYTES
        pixel, border = channels * 4, P // 2 + 1
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
                    count = min(band, height - top)
                    lowest = (top - P) // 2
                    fill(
                        buffer, columns, (count + 1) // 2 + P + 1, source, lowest, out_height, out_width,
                        pixel, border, 0, 0,
                    )  # fmt: skip
                    for row in range(top, top + count):
                        out = target + row * width * pixel
                        gradient_row(
                            out, buffer, columns, lowest, border, row, width, pixel, weights, 0, 0, 0, 0, K, 2
                        )  # fmt: skip

    return run.address
