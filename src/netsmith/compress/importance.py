"""What the channels of a group are worth to the network, each by a number, before any is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.compress.channels import Channels, Group, Link

Scores = Mapping[str, torch.Tensor]
"""Of each group, by name, one number for each of its channels (C,), larger for what matters more."""


def magnitude(module: nn.Module, channels: Channels) -> dict[str, torch.Tensor]:
    """Score each channel by the weights that read it, the mean of |W|, as AMC does (He et al. 2018, 3.2).

    The sum over all that read it, each relative to the mean of its layer, so that scores of groups compare.
    """
    layers = dict(module.named_modules())
    return {group.name: _of_readers(layers, group) for group in channels.groups}


def taylor(
    module: nn.Module, channels: Channels, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Score each channel by what the loss would change without it, to first order (Molchanov et al. 2019).

    Of every weight w that reads the channel g * w, with g the gradient of the cross-entropy; summed over the
    weights, squared, and averaged over ``batches`` of (images (N, C, H, W), labels (N,)). The module computes
    as at evaluation, and is left as it was.
    """
    layers = dict(module.named_modules())
    scores = {group.name: torch.zeros(group.channels, dtype=torch.float64) for group in channels.groups}
    training = module.training
    module.eval()
    count = 0
    try:
        for x, y in batches:
            loss = F.cross_entropy(module(x), y)
            weights = [p for p in module.parameters() if p.requires_grad]
            gradients = dict(zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True))
            for group in channels.groups:
                scores[group.name] += _change(layers, group, gradients) ** 2
            count += 1
    finally:
        module.train(training)
    return {name: score / max(1, count) for name, score in scores.items()}


def best_of(group: Group, scores: torch.Tensor, count: int) -> list[int]:
    """Return the ``count`` channels of the highest scores, ascending; as many of each part of the group.

    ``count`` is rounded down to a multiple of the parts, but to at least one of each.
    """
    each = max(1, count // group.parts)
    runs = scores.view(group.parts, -1)
    chosen = runs.topk(each, dim=1, sorted=False).indices + torch.arange(group.parts)[:, None] * runs.shape[1]
    return sorted(chosen.flatten().tolist())


def _of_readers(layers: Mapping[str, nn.Module], group: Group) -> torch.Tensor:
    total = torch.zeros(group.channels, dtype=torch.float64)
    for link in group.links:
        if link.side == "in":
            each = _along(layers[link.layer].get_parameter("weight").detach().abs(), layers[link.layer], link)
            total += each / each.mean().clamp_min(1e-30)
    return total


def _change(
    layers: Mapping[str, nn.Module], group: Group, gradients: Mapping[nn.Parameter, torch.Tensor | None]
) -> torch.Tensor:
    total = torch.zeros(group.channels, dtype=torch.float64)
    for link in group.links:
        weight = layers[link.layer].get_parameter("weight")
        gradient = gradients.get(weight)
        if link.side == "in" and gradient is not None:
            total += _along(weight.detach() * gradient, layers[link.layer], link)
    return total


def _along(values: torch.Tensor, layer: nn.Module, link: Link) -> torch.Tensor:
    """Sum of values of a weight's shape over all that reads each channel of a group: (C,) float64."""
    inputs = values.double().flatten(2).sum(2) if values.ndim > 2 else values.double()
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:  # (out, in / groups) to (in,)
        columns = torch.cat([block.sum(0) for block in torch.split(inputs, len(inputs) // layer.groups)])
    else:
        columns = inputs.sum(0)
    places: Sequence[tuple[int, ...]] = link.places
    return torch.stack([columns[list(of_channel)].sum() for of_channel in places]).cpu()
