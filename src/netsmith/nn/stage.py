"""The middle of an inverted bottleneck as one operation: norm, ReLU6, depthwise convolution, norm, ReLU6.

On a CPU most of a training step is memory traffic. Done one by one, these five write, save and read
again pictures of the block's largest width; done together, only what goes into each norm is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from netsmith.nn.depthwise import conv_scratch, conv_sizes, correlate, takes_depthwise
from netsmith.nn.norm import NONE, RELU6, apply, gather, measure, spread, takes_norm
from netsmith.nn.runtime import pointer


def takes_stage(
    x: torch.Tensor, before: nn.BatchNorm2d, weight: torch.Tensor, stride: int, after: nn.BatchNorm2d
) -> bool:
    """Whether :func:`norm_depthwise_norm` can take these; norms with hooks it leaves to PyTorch."""
    return (
        takes_norm(before, x)
        and takes_depthwise(x, weight, stride)
        and after.weight is not None
        and after.running_mean is not None
        and after.momentum is not None
        and x.shape[0] > 1  # so that the second norm has two values, whatever the stride leaves
        and not has_hooks(before)
        and not has_hooks(after)
    )


def has_hooks(layer: nn.Module) -> bool:
    """Whether somebody listens to ``layer``, who must not be passed over."""
    return bool(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    )


def norm_depthwise_norm(
    x: torch.Tensor, before: nn.BatchNorm2d, weight: torch.Tensor, stride: int, after: nn.BatchNorm2d
) -> torch.Tensor:
    """Apply ``before``, ReLU6, a depthwise convolution, ``after`` and ReLU6 to (N, C, H, W).

    ``weight`` is (C, 1, K, K), padding ``K // 2``.
    The arguments must satisfy :func:`takes_stage`. Returns (N, C, ceil(H / stride), ceil(W / stride)).
    Saves ``x`` and the convolution's output, and nothing else of their size.
    """
    parameters = before.weight, before.bias, weight, after.weight, after.bias
    if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
        out: torch.Tensor = _apply(x, *parameters, before, stride, after)
        return out
    return _forward(x, before, weight, stride, after)[0]


def _forward(
    x: torch.Tensor, before: nn.BatchNorm2d, weight: torch.Tensor, stride: int, after: nn.BatchNorm2d
) -> tuple[torch.Tensor, ...]:
    """The result, the convolution's output, and the rows of both norms."""
    rows_before = measure(before, x)
    y = correlate(x, weight, stride, rows_before)
    rows_after = measure(after, y)
    return apply(y, rows_after, RELU6), y, rows_before, rows_after


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, weight: torch.Tensor,
        gamma_after: torch.Tensor, beta_after: torch.Tensor, before: nn.BatchNorm2d, stride: int,
        after: nn.BatchNorm2d,
    ) -> torch.Tensor:  # fmt: skip
        out, y, rows_before, rows_after = _forward(x, before, weight, stride, after)
        ctx.save_for_backward(x, y, rows_before, rows_after, weight)
        ctx.training, ctx.stride = (before.training, after.training), stride
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, rows_before, rows_after, weight = ctx.saved_tensors
        dz = dz.contiguous(memory_format=torch.channels_last)
        needs = ctx.needs_input_grad
        slopes, affine_after = gather(y, dz, rows_after, ctx.training[1], RELU6, needs[4] or needs[5])
        dx, dw, sums = _gradients(x, y, dz, weight, rows_before, rows_after, slopes, ctx.stride, needs[3])
        slopes, affine = gather(x, None, rows_before, ctx.training[0], RELU6, needs[1] or needs[2], sums)
        if needs[0]:
            # In place, unless a last block of channels overlaps the one before it.
            target = dx if x.shape[1] % 16 == 0 else torch.empty_like(dx)
            dx = spread(x, dx, rows_before, slopes, NONE, target)
        return (
            dx if needs[0] else None,
            affine[0] if needs[1] else None,
            affine[1] if needs[2] else None,
            dw,
            affine_after[0] if needs[4] else None,
            affine_after[1] if needs[5] else None,
            None,
            None,
            None,
        )


_apply: Any = _Stage.apply


def _gradients(
    x: torch.Tensor,
    y: torch.Tensor,
    dz: torch.Tensor,
    weight: torch.Tensor,
    rows_before: torch.Tensor,
    rows_after: torch.Tensor,
    slopes: torch.Tensor,
    stride: int,
    needs_dw: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """The gradient inside the first ReLU6, that of the weights, and the sums that the first norm needs."""
    from netsmith.nn.kernels.depthwise import gather_weight_gradient
    from netsmith.nn.kernels.launch import launch
    from netsmith.nn.kernels.stage import stage_gradient

    sizes, kernel = conv_sizes(tuple(x.shape), stride), weight.shape[2]
    threads, taps, width = min(torch.get_num_threads(), sizes[0]), kernel * kernel, slopes.numel() // 2
    scratch, each = conv_scratch(sizes, kernel, threads)
    dx, sums = torch.empty_like(x), torch.empty(4 * threads * width)
    partial = torch.empty(threads * taps * width) if needs_dw else None
    tensors = (x, y, dz, weight, dx, partial, rows_before, rows_after, slopes, sums, scratch)
    launch(stage_gradient(kernel, stride), threads, *sizes, *map(pointer, tensors), each)
    if partial is None:
        return dx, None, sums
    dw = torch.empty(weight.shape)
    launch(gather_weight_gradient(), 1, threads, sizes[1], taps, partial.data_ptr(), dw.data_ptr())
    return dx, dw, sums
