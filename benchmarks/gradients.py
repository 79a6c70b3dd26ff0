"""Our layers against PyTorch's own, given the same inputs and the same gradients."""

from __future__ import annotations

from typing import Any

EDGE = 1e-4  # of an activation to a limit of ReLU6


def plain(module: Any) -> None:
    """Put PyTorch's own layers in place of ours, with the same weights."""
    from torch import nn

    from netsmith.nn.layers import BatchNorm, BatchNormReLU6, DepthwiseConv2d

    for name, child in module.named_children():
        if isinstance(child, DepthwiseConv2d):
            made: nn.Module = nn.Conv2d(
                child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding,
                groups=child.groups, bias=False,
            )  # fmt: skip
            made.load_state_dict(child.state_dict())
        elif isinstance(child, BatchNorm | BatchNormReLU6):
            made = nn.BatchNorm2d(child.num_features, child.eps, child.momentum)
            made.load_state_dict(child.state_dict())
            if isinstance(child, BatchNormReLU6):
                made = nn.Sequential(made, nn.ReLU6())
        else:
            plain(child)
            continue
        setattr(module, name, made)


def layer_errors(plan: Any, batch: int, threads: int) -> tuple[float, float]:
    """Largest errors of a gradient in any layer, ours and PyTorch's, against the same layer in float64.

    Relative to the largest value. Each layer is given what it is given in the network, and a random gradient.
    Whole networks cannot be compared closer than float32 itself allows: ReLU6 and batch norm amplify the
    last bit. For the same reason no gradient enters where an activation is within rounding of a limit.
    """
    import torch

    from netsmith.nn.blocks import MBConv
    from netsmith.nn.network import Network

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = Network(plan).to(memory_format=torch.channels_last)
    x = torch.randn(batch, *plan.input_shape).contiguous(memory_format=torch.channels_last)
    errors = [(0.0, 0.0)]
    with torch.no_grad():
        for block in module.blocks:
            here = x
            layers = (
                [*block.expand.children(), block.depthwise, block.norm] if isinstance(block, MBConv) else []
            )
            for layer in layers:
                if type(layer) is not torch.nn.Conv2d:
                    errors.append(errors_of(layer, here))
                here = layer(here)
            x = block(x)
    ours, stock = zip(*errors, strict=True)
    return max(ours), max(stock)


def errors_of(layer: Any, x: Any) -> tuple[float, float]:
    """The same of one layer that is given ``x``."""
    import copy

    import torch

    holder = torch.nn.Sequential(copy.deepcopy(layer))
    plain(holder)
    wide = copy.deepcopy(holder).double()
    exact = wide(x.double())
    dy = torch.randn_like(exact).float()
    if isinstance(holder[0], torch.nn.Sequential):
        dy.masked_fill_((exact < EDGE) | (exact > 6 - EDGE), 0.0)
    ours, stock, truth = (gradients_of(run, x, dy) for run in (layer, holder, wide))
    return error(ours, truth), error(stock, truth)


def gradients_of(run: Any, x: Any, dy: Any) -> list[Any]:
    """Gradients of the input and of every parameter, in the type of the parameters."""
    import torch

    kind = next(run.parameters()).dtype
    with torch.enable_grad():
        given = x.to(kind).requires_grad_()
        return list(torch.autograd.grad(run(given), [given, *run.parameters()], dy.to(kind)))


def error(found: list[Any], exact: list[Any]) -> float:
    """Largest difference of any gradient, relative to its largest value."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))
