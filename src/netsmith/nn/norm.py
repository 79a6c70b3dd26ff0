"""Batch normalisation with or without ReLU6 on a CPU by the compiled kernels, with its gradients."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from netsmith.nn.runtime import takes_kernels

_LANES = 16
_PIXELS_EACH = 32  # fewer are not worth a thread


def takes_norm(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """Whether :func:`batch_norm` can take these: see :func:`takes_kernels`; affine, with running figures."""
    return (
        norm.weight is not None
        and norm.running_mean is not None
        and norm.momentum is not None
        and takes_kernels(x)
        and x.shape[0] * x.shape[2] * x.shape[3] > 1
        and norm.weight.shape[0] == x.shape[1]
        and norm.weight.dtype is norm.running_mean.dtype is torch.float32
        and norm.weight.device.type == "cpu"
    )


def batch_norm(norm: nn.BatchNorm2d, x: torch.Tensor, relu6: bool) -> torch.Tensor:
    """Apply ``norm`` to (N, C, H, W), then ReLU6 if asked, moving the running figures in training.

    ``norm`` and ``x`` must satisfy :func:`takes_norm`. Only ``x`` and two figures a channel are kept
    for the gradient; what ReLU6 cut off is found again from them.
    """
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    needs = x.requires_grad or norm.weight.requires_grad or norm.bias.requires_grad
    if needs and torch.is_grad_enabled():
        out: torch.Tensor = _apply(x, norm.weight, norm.bias, norm, relu6)
        return out
    return _forward(x, norm, relu6)[0]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, norm: nn.BatchNorm2d, relu6: bool
    ) -> torch.Tensor:
        y, figures = _forward(x, norm, relu6)
        ctx.save_for_backward(x, gamma, beta, figures)
        ctx.training, ctx.relu6 = norm.training, relu6
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        from netsmith.nn.kernels.launch import launch
        from netsmith.nn.kernels.norm import backward

        x, gamma, beta, figures = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        needs_dx, needs_dgamma, needs_dbeta = ctx.needs_input_grad[:3]
        dx = torch.empty_like(x) if needs_dx else None
        gradients = torch.empty_like(figures) if needs_dgamma or needs_dbeta else None
        pixels, channels, threads, width = _sizes(x)
        scratch = torch.empty((4 * threads + 5) * width)
        launch(
            backward(), threads, pixels, channels, x.data_ptr(), dy.data_ptr(), _pointer(dx),
            gamma.data_ptr(), beta.data_ptr(), *_rows(figures, channels),
            *(_rows(gradients, channels) if gradients is not None else (0, 0)),
            scratch.data_ptr(), int(ctx.training), int(ctx.relu6),
        )  # fmt: skip
        dgamma, dbeta = gradients.unbind() if gradients is not None else (None, None)
        return dx, dgamma if needs_dgamma else None, dbeta if needs_dbeta else None, None, None


_apply: Any = _Norm.apply


def _forward(x: torch.Tensor, norm: nn.BatchNorm2d, relu6: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and (2, C): the mean and the inverse deviation that it was normalised with."""
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.norm import forward

    pixels, channels, threads, width = _sizes(x)
    y, figures = torch.empty_like(x), torch.empty(2, channels)
    scratch = torch.empty((4 * threads + 2) * width)
    launch(
        forward(), threads, pixels, channels, x.data_ptr(), y.data_ptr(), norm.weight.data_ptr(),
        norm.bias.data_ptr(), *_rows(figures, channels), _pointer(norm.running_mean),
        _pointer(norm.running_var), scratch.data_ptr(), _bits(norm.eps), _bits(norm.momentum or 0.0),
        int(norm.training), int(relu6),
    )  # fmt: skip
    return y, figures


def _sizes(x: torch.Tensor) -> tuple[int, int, int, int]:
    """Pixels, channels, threads, and the channels rounded up to whole vectors."""
    n, channels, height, width = x.shape
    pixels = n * height * width
    threads = max(1, min(torch.get_num_threads(), pixels // _PIXELS_EACH))
    return pixels, channels, threads, -(-channels // _LANES) * _LANES


def _rows(figures: torch.Tensor, channels: int) -> tuple[int, int]:
    first = figures.data_ptr()
    return first, first + 4 * channels


def _pointer(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@cache
def _bits(value: float) -> int:
    """The double as the integer of the same eight bytes: kernels take integers alone."""
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits
