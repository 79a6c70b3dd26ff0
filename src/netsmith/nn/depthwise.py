"""Depthwise convolution on a CPU by the compiled kernels, with its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from netsmith.nn.runtime import pointer, takes_kernels

_LANES = 16
_PAGE = 4096


def takes_depthwise(x: torch.Tensor, weight: torch.Tensor, stride: int) -> bool:
    """Whether :func:`depthwise_conv2d` can take these: see :func:`takes_kernels`; kernels 3, 5 and 7."""
    return (
        takes_kernels(x)
        and weight.dtype is torch.float32
        and weight.is_contiguous()
        and stride in (1, 2)
        and weight.shape[2] == weight.shape[3]
        and weight.shape[2] in (3, 5, 7)
        and weight.shape[0] == x.shape[1]
        and weight.device == x.device
    )


def depthwise_conv2d(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolve every channel with its own filter, padding ``kernel // 2``.

    ``x`` is (N, C, H, W) in channels-last memory, ``weight`` (C, 1, K, K); both must satisfy
    :func:`takes_depthwise`. Returns (N, C, ceil(H / stride), ceil(W / stride)), channels last.
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        out: torch.Tensor = _apply(x, weight, stride)
        return out
    return correlate(x, weight, stride)


class _Depthwise(torch.autograd.Function):
    """Saves the input only where the weights need a gradient, the weights only where the input does."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        needs_dx, needs_dw, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_dw else None, weight if needs_dx else None)
        ctx.shapes, ctx.stride = (tuple(x.shape), tuple(weight.shape)), stride
        return correlate(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        shape, filters = ctx.shapes
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = _input_gradient(shape, dy, weight, ctx.stride) if weight is not None else None
        dw = _weight_gradient(x, dy, filters, ctx.stride) if x is not None else None
        return dx, dw, None


_apply: Any = _Depthwise.apply


def conv_sizes(shape: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Return (N, C, H, W, out H, out W): how every kernel's arguments begin."""
    n, c, h, w = shape
    return n, c, h, w, (h - 1) // stride + 1, (w - 1) // stride + 1


def conv_scratch(sizes: tuple[int, ...], kernel: int, threads: int) -> tuple[torch.Tensor, int]:
    """Return room for the packed weights and the bordered buffers of each thread, and its bytes."""
    from netsmith.nn.kernels.tiles import BAND_BYTES

    packed = 4 * _LANES * -(-sizes[1] // _LANES) * kernel * kernel
    row = 4 * _LANES * (sizes[3] + 3 * kernel + 16)
    buffer = BAND_BYTES + (kernel + 4) * row
    bytes_each = -(-(packed + 2 * buffer) // _PAGE) * _PAGE
    return torch.empty(threads * bytes_each, dtype=torch.uint8), bytes_each


def correlate(
    x: torch.Tensor, weight: torch.Tensor, stride: int, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the convolution of ``x``, normalised by ``rows`` and put through ReLU6 first if given."""
    from netsmith.nn.kernels import depthwise as kernels
    from netsmith.nn.kernels.launch import launch

    sizes, kernel = conv_sizes(tuple(x.shape), stride), weight.shape[2]
    threads = min(torch.get_num_threads(), sizes[0])
    scratch, each = conv_scratch(sizes, kernel, threads)
    y = torch.empty((sizes[0], sizes[1], *sizes[4:]), memory_format=torch.channels_last)
    pointers = (x.data_ptr(), weight.data_ptr(), y.data_ptr(), scratch.data_ptr())
    launch(kernels.correlate(kernel, stride), threads, *sizes, *pointers, each, 0, pointer(rows))
    return y


def _input_gradient(
    shape: tuple[int, ...], dy: torch.Tensor, weight: torch.Tensor, stride: int
) -> torch.Tensor:
    from netsmith.nn.kernels import depthwise as kernels
    from netsmith.nn.kernels.launch import launch

    sizes, kernel = conv_sizes(shape, stride), weight.shape[2]
    threads = min(torch.get_num_threads(), sizes[0])
    scratch, each = conv_scratch(sizes, kernel, threads)
    dx = torch.empty(shape, memory_format=torch.channels_last)
    pointers = (dy.data_ptr(), weight.data_ptr(), dx.data_ptr(), scratch.data_ptr())
    if stride == 1:  # the correlation of dy with the filters turned round
        launch(kernels.correlate(kernel, 1), threads, *sizes, *pointers, each, 1, 0)
    else:
        launch(kernels.input_gradient_stride2(), threads, *sizes, *pointers, each, kernel)
    return dx


def _weight_gradient(
    x: torch.Tensor, dy: torch.Tensor, filters: tuple[int, ...], stride: int
) -> torch.Tensor:
    from netsmith.nn.kernels.depthwise import gather_weight_gradient, weight_gradient
    from netsmith.nn.kernels.launch import launch

    sizes, kernel = conv_sizes(tuple(x.shape), stride), filters[2]
    threads, taps = min(torch.get_num_threads(), sizes[0]), kernel * kernel
    scratch, each = conv_scratch(sizes, kernel, threads)
    partial = torch.empty(threads * -(-sizes[1] // _LANES) * taps * _LANES)
    dw = torch.empty(filters)
    pointers = (x.data_ptr(), dy.data_ptr(), partial.data_ptr(), scratch.data_ptr())
    launch(weight_gradient(kernel), threads, *sizes, *pointers, each, stride)
    launch(gather_weight_gradient(), 1, threads, sizes[1], taps, partial.data_ptr(), dw.data_ptr())
    return dw
