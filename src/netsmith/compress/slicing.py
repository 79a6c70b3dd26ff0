"""Cutting channels out of a network, by slices of its weights."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from netsmith.compress.channels import Channels, Group, Kept, Side
from netsmith.errors import CompressionError

KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def pruned(module: nn.Module, channels: Channels, kept: Kept) -> nn.Module:
    """Return a copy of ``module`` without the channels of the groups that ``kept`` leaves out.

    Its outputs are those of ``module`` with zeros where the channels were read. Raises
    :class:`CompressionError` where ``kept`` names what there is not, or leaves nothing of a group.
    """
    known = {group.name: group for group in channels.groups}
    lost: dict[tuple[str, Side], set[int]] = defaultdict(set)
    for name, stay in kept.items():
        if name not in known:
            raise CompressionError(f"no group of channels is called '{name}'; there are {', '.join(known)}")
        group = known[name]
        _check_kept(group, stay)
        gone = sorted(set(range(group.channels)) - set(stay))
        for link in group.links:
            lost[link.layer, link.side].update(place for c in gone for place in link.places[c])
    made = copy.deepcopy(module)
    layers = dict(made.named_modules())
    for name in dict.fromkeys(layer for layer, _ in lost):
        _slice(layers[name], lost[name, "in"], lost[name, "out"])
    return made


def resized(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of ``module`` with ``weights``, those of what :func:`pruned` left of it.

    Raises :class:`CompressionError` where they are not that.
    """
    made = copy.deepcopy(module).float().cpu()
    for path, layer in made.named_modules():
        weight = weights.get(f"{path}.weight" if path else "weight")
        if isinstance(layer, KNOWN) and weight is not None:
            _resize(layer, weight.shape)
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        raise CompressionError(f"these weights are not of what is left of this network: {error}") from None
    return made


def _resize(layer: nn.Module, shape: torch.Size) -> None:
    """Give a layer the sizes of a weight, and numbers that are still to be set."""
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features = shape[0]
    elif isinstance(layer, nn.Linear) and len(shape) == 2:
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.Conv2d) and len(shape) == 4:
        layer.groups = shape[0] if is_depthwise(layer) else layer.groups
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(layer, name, None)
        if tensor is None:
            continue
        empty = torch.zeros(shape if name == "weight" else shape[:1], dtype=tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        setattr(layer, name, empty)


def _check_kept(group: Group, stay: Sequence[int]) -> None:
    run = group.channels // group.parts
    counts = [sum(c // run == part for c in stay) for part in range(group.parts)]
    if list(stay) != sorted(set(stay) & set(range(group.channels))) or not stay or len(set(counts)) > 1:
        raise CompressionError(
            f"of group '{group.name}' keep some of 0..{group.channels - 1}, ascending, as many of each of "
            f"its {group.parts} parts; got {list(stay)!r:.100}"
        )


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution with one filter a channel."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels


def _slice(layer: nn.Module, lost_in: set[int], lost_out: set[int]) -> None:
    """Take channels out of a layer, in place."""
    if isinstance(layer, nn.BatchNorm2d):
        stay = _rest(layer.num_features, lost_out)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _cut(layer, name, 0, stay)
        layer.num_features = len(stay)
    elif isinstance(layer, nn.Linear):
        rows, columns = _rest(layer.out_features, lost_out), _rest(layer.in_features, lost_in)
        _cut(layer, "weight", 0, rows)
        _cut(layer, "weight", 1, columns)
        _cut(layer, "bias", 0, rows)
        layer.out_features, layer.in_features = len(rows), len(columns)
    elif isinstance(layer, nn.Conv2d):
        _slice_convolution(layer, lost_in, lost_out)


def _slice_convolution(layer: nn.Conv2d, lost_in: set[int], lost_out: set[int]) -> None:
    depthwise = is_depthwise(layer)
    rows = _rest(layer.out_channels, lost_out | lost_in if depthwise else lost_out)
    if not depthwise and lost_in:
        _cut_columns(layer, _rest(layer.in_channels, lost_in))
        layer.in_channels -= len(lost_in)
    _cut(layer, "weight", 0, rows)
    _cut(layer, "bias", 0, rows)
    layer.out_channels = len(rows)
    if depthwise:
        layer.in_channels = layer.groups = len(rows)


def _cut_columns(layer: nn.Conv2d, stay: list[int]) -> None:
    """Keep some inputs; each group of a grouped convolution has columns of its own."""
    run, height = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    blocks = []
    for number, block in enumerate(torch.split(layer.weight.detach(), height)):
        mine = [place - number * run for place in stay if place // run == number]
        blocks.append(block[:, mine])
    layer.weight = nn.Parameter(torch.cat(blocks), requires_grad=layer.weight.requires_grad)


def _rest(count: int, lost: set[int]) -> list[int]:
    return [i for i in range(count) if i not in lost]


def _cut(layer: nn.Module, name: str, axis: int, stay: list[int]) -> None:
    """Keep some places along an axis of a parameter or buffer, where there is one."""
    tensor = getattr(layer, name)
    if tensor is None or len(stay) == tensor.shape[axis]:
        return
    part = tensor.detach().index_select(axis, torch.tensor(stay, device=tensor.device)).clone()
    if isinstance(tensor, nn.Parameter):
        part = nn.Parameter(part, requires_grad=tensor.requires_grad)
    setattr(layer, name, part)
