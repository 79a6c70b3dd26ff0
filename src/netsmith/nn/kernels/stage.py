"""The gradient of batch norm, ReLU6, depthwise convolution, batch norm, ReLU6 in one pass over memory.

Both normalised pictures are made again from what went into the norms, band by band in buffers that
never leave the nearest caches, so neither is ever kept or written.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import cfunc, types

from netsmith.nn.kernels.depthwise import GROUPS
from netsmith.nn.kernels.frame import argument, team, zero
from netsmith.nn.kernels.simd import BYTES, LANES, registers
from netsmith.nn.kernels.tiles import (
    TILE,
    add_products,
    band_rows,
    fill,
    fill_gradient,
    gradient_row,
    pack_weights,
)


@cache
def stage_gradient(kernel: int, stride: int) -> Any:
    """Compile the gradients of the convolution's weights and of what the first norm gave its ReLU6.

    Arguments: images, channels, H, W, out H, out W, x (into the first norm), y (into the second), dz (of the
    end), w, dx, partial (or 0: no weight gradient), rows of the first norm, rows and slopes of the second,
    sums, scratch, bytes of scratch a thread. ``dx`` becomes the gradient inside the first ReLU6's limits;
    of it ``sums`` gets, for each thread, what :func:`netsmith.nn.kernels.norm.gather` expects.
    """
    K, S, P, G = kernel, stride, kernel // 2, GROUPS[kernel]

    @cfunc(types.void(types.int64), cache=True)
    def run(words: int) -> None:
        thread, threads = team(words)
        images, channels = argument(words, 0), argument(words, 1)
        height, width = argument(words, 2), argument(words, 3)
        out_height, out_width = argument(words, 4), argument(words, 5)
        x, y, dz, weight = argument(words, 6), argument(words, 7), argument(words, 8), argument(words, 9)
        dx, partial = argument(words, 10), argument(words, 11)
        rows_before, rows_after = argument(words, 12), argument(words, 13)
        slopes, sums = argument(words, 14), argument(words, 15)
        packed = argument(words, 16) + thread * argument(words, 17)
        blocks = (channels + LANES - 1) // LANES
        line, pixel = blocks * BYTES, channels * 4
        weights_too = partial != 0
        partial += thread * K * K * line
        sums += 4 * thread * line + 2 * line
        # The buffer of x, then the one of the gradient of y.
        columns = max((out_width - 1) * S + K, width + P)
        band = min(band_rows(columns, S, K), out_height)
        buffer = packed + K * K * line
        gradient = buffer + columns * ((band - 1) * S + K) * BYTES
        border = P if S == 1 else P // 2 + 1
        across = max(out_width, ((width + S - 1) // S + TILE - 1) // TILE * TILE) + 2 * border + 1
        pack_weights(weight, packed, channels, K * K, False)
        zero(buffer, columns * ((band - 1) * S + K))
        zero(gradient, across * (band + K + 1))
        zero(sums, 2 * blocks)
        if weights_too:
            zero(partial, K * K * blocks)
        room = registers()
        for n in range(images * thread // threads, images * (thread + 1) // threads):
            for block in range(blocks):
                first = min(block * LANES, channels - LANES) * 4
                before = x + n * height * width * pixel + first
                target = dx + n * height * width * pixel + first
                out = n * out_height * out_width * pixel + first
                rows = rows_before + block * BYTES
                for top in range(0, out_height, band):
                    count = min(band, out_height - top)
                    start, stop = top * S, min((top + count) * S, height)
                    lowest = (start - P) // S
                    fill_gradient(
                        gradient, across, (stop - 1 + P) // S - lowest + 1, y + out, dz + out, lowest,
                        out_height, out_width, pixel, border, rows_after + block * BYTES,
                        slopes + block * BYTES, line,
                    )  # fmt: skip
                    if weights_too:
                        fill(
                            buffer, columns, (count - 1) * S + K, before, start - P, height, width, pixel, P,
                            rows, line,
                        )  # fmt: skip
                        add_products(
                            partial + block * K * K * BYTES, room, buffer, columns,
                            gradient + ((top - lowest) * across + border) * BYTES, across * BYTES, BYTES,
                            count, out_width, K, S, G,
                        )  # fmt: skip
                    for row in range(start, stop):
                        at = row * width * pixel
                        gradient_row(
                            target + at, gradient, across, lowest, border, row, width, pixel,
                            packed + block * K * K * BYTES, before + at, rows, line, sums + block * BYTES,
                            K, S,
                        )  # fmt: skip

    return run.address
