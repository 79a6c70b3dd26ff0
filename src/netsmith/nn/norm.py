"""Batch normalisation with or without an activation on a CPU by the compiled kernels, with its gradients."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from netsmith.nn.runtime import pointer, takes_kernels

NONE, RELU6, RELU = 0, 1, 2
"""The activations that may follow, by the kernels' numbers."""

_LANES = 16
_PIXELS_EACH = 32  # fewer are not worth a thread


def takes_norm(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """Whether :func:`batch_norm` can take these: see :func:`takes_kernels`; affine, with running figures."""
    return (
        takes_kernels(x)  # first: a tracer's stand-in stops here, before it records a use of the weights
        and norm.weight is not None
        and norm.running_mean is not None
        and norm.momentum is not None
        and x.shape[0] * x.shape[2] * x.shape[3] > 1
        and norm.weight.shape[0] == x.shape[1]
        and norm.weight.dtype is norm.running_mean.dtype is torch.float32
        and norm.weight.device.type == "cpu"
    )


def batch_norm(norm: nn.BatchNorm2d, x: torch.Tensor, activation: int) -> torch.Tensor:
    """Apply ``norm`` to (N, C, H, W), then the activation, moving the running figures in training.

    ``norm`` and ``x`` must satisfy :func:`takes_norm`. Only ``x`` and two figures a channel are kept
    for the gradient; what it cut off is found again from them.
    """
    needs = x.requires_grad or norm.weight.requires_grad or norm.bias.requires_grad
    if needs and torch.is_grad_enabled():
        out: torch.Tensor = _apply(x, norm.weight, norm.bias, norm, activation)
        return out
    return apply(x, measure(norm, x), activation)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        norm: nn.BatchNorm2d,
        activation: int,
    ) -> torch.Tensor:
        rows = measure(norm, x)
        ctx.save_for_backward(x, rows)
        ctx.training, ctx.activation = norm.training, activation
        return apply(x, rows, activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, rows = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        needs_dx, *needs = ctx.needs_input_grad[:3]
        slopes, gradients = gather(x, dy, rows, ctx.training, ctx.activation, any(needs))
        dx = spread(x, dy, rows, slopes, ctx.activation, torch.empty_like(x)) if needs_dx else None
        return dx, gradients[0] if needs[0] else None, gradients[1] if needs[1] else None, None, None


_apply: Any = _Norm.apply


def measure(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Return the four rows of :mod:`netsmith.nn.kernels.norm` for ``x``, moving the running figures."""
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.norm import measure

    pixels, channels, threads, width = sizes(x)
    rows, scratch = torch.empty(4 * width), torch.empty(4 * threads * width)
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    launch(
        measure(), threads, pixels, channels, x.data_ptr(), norm.weight.data_ptr(), norm.bias.data_ptr(),
        pointer(norm.running_mean), pointer(norm.running_var), rows.data_ptr(), scratch.data_ptr(),
        _bits(norm.eps), _bits(norm.momentum or 0.0), int(norm.training),
    )  # fmt: skip
    return rows


def apply(x: torch.Tensor, rows: torch.Tensor, activation: int) -> torch.Tensor:
    """Return ``x`` normalised by ``rows``, then the activation."""
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.norm import apply

    pixels, channels, threads, _ = sizes(x)
    y = torch.empty_like(x)
    launch(apply(), threads, pixels, channels, x.data_ptr(), y.data_ptr(), rows.data_ptr(), activation)
    return y


def gather(
    x: torch.Tensor,
    dy: torch.Tensor | None,
    rows: torch.Tensor,
    training: bool,
    activation: int,
    affine: bool,
    sums: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slopes of dx, and (2, C) the gradients of gamma and beta where ``affine`` asks for them.

    Without ``dy``, ``sums`` holds what each thread summed already.
    """
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.norm import gather

    pixels, channels, threads, width = sizes(x)
    if sums is None:
        sums = torch.empty(4 * threads * width)
    slopes, gradients = torch.empty(2 * width), torch.empty(2, channels if affine else 0)
    first = gradients.data_ptr() if affine else 0
    launch(
        gather(), sums.numel() // (4 * width), pixels, channels, x.data_ptr(), pointer(dy), rows.data_ptr(),
        slopes.data_ptr(), first, first + 4 * channels, sums.data_ptr(), int(training), activation,
    )  # fmt: skip
    return slopes, gradients


def spread(
    x: torch.Tensor,
    dy: torch.Tensor,
    rows: torch.Tensor,
    slopes: torch.Tensor,
    activation: int,
    dx: torch.Tensor,
) -> torch.Tensor:
    """Write the gradient of ``x`` into ``dx``, and return it.

    ``dx`` may be ``dy`` itself where the channels are a multiple of sixteen: else some are written twice.
    """
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.norm import spread

    pixels, channels, threads, _ = sizes(x)
    pointers = (x.data_ptr(), dy.data_ptr(), dx.data_ptr(), rows.data_ptr(), slopes.data_ptr())
    launch(spread(), threads, pixels, channels, *pointers, activation)
    return dx


def sizes(x: torch.Tensor) -> tuple[int, int, int, int]:
    """Pixels, channels, threads, and the channels rounded up to whole vectors."""
    n, channels, height, width = x.shape
    pixels = n * height * width
    threads = max(1, min(torch.get_num_threads(), pixels // _PIXELS_EACH))
    return pixels, channels, threads, -(-channels // _LANES) * _LANES


@cache
def _bits(value: float) -> int:
    """The double as the integer of the same eight bytes: kernels take integers alone."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits
