"""Widening that changes nothing: channels that are copies of others (Net2Net, Chen et al. 2016)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from netsmith.compress.channels import Channels, Group, Link
from netsmith.compress.slicing import KNOWN, is_depthwise
from netsmith.errors import TransformError


def widened(module: nn.Module, channels: Channels, copied: dict[str, Sequence[int]]) -> nn.Module:
    """Return a copy of ``module`` with channels of groups doubled: those that ``copied`` names, by group.

    A copy stands behind the channels of its group. Whoever reads channel c and its k copies multiplies each
    by its weight of c over k + 1 (Chen et al. 2016, section 3.1). Raises :class:`TransformError` on groups
    and channels that there are not, and on groups whose channels are not in one run where they are read.
    """
    known = {group.name: group for group in channels.groups}
    made = copy.deepcopy(module)
    layers = dict(made.named_modules())
    for name, extra in copied.items():
        if name not in known:
            raise TransformError(f"no group of channels is called '{name}'; there are {', '.join(known)}")
        group = known[name]
        _check(group, extra)
        for link in group.links:
            layer = layers[link.layer]
            assert isinstance(layer, KNOWN)
            if link.side == "out":
                _make_more(layer, extra)
            elif not is_depthwise(layer):
                assert not isinstance(layer, nn.BatchNorm2d)
                _read_more(layer, group, link, extra)
    return made


def widening(channels: Channels) -> Channels:
    """Return the groups of ``channels`` that :func:`widened` takes, and none else."""
    return replace(channels, groups=tuple(group for group in channels.groups if not _refused(group)))


def _check(group: Group, extra: Sequence[int]) -> None:
    if not all(0 <= channel < group.channels for channel in extra):
        raise TransformError(
            f"group '{group.name}' has channels 0..{group.channels - 1}; asked were {list(extra)!r:.100}"
        )
    if reason := _refused(group):
        raise TransformError(reason)


def _refused(group: Group) -> str:
    """Why the channels of a group cannot be copied; empty where they can."""
    if group.parts > 1:
        return f"the channels of group '{group.name}' are cut into parts by a grouped convolution"
    for link in group.links:
        places = [place for of_channel in link.places for place in of_channel]
        if places != list(range(places[0], places[0] + len(places))) or (link.side == "out" and places[0]):
            return f"the channels of group '{group.name}' are not one run in '{link.layer}'"
    return ""


def _make_more(layer: nn.Module, extra: Sequence[int]) -> None:
    """Append copies of what a layer makes."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(layer, name, None)
        if tensor is not None:
            _put(layer, name, torch.cat([tensor.detach(), tensor.detach()[list(extra)]]))
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features += len(extra)
    elif isinstance(layer, nn.Linear):
        layer.out_features += len(extra)
    elif isinstance(layer, nn.Conv2d):
        if is_depthwise(layer):
            layer.in_channels = layer.groups = layer.groups + len(extra)
        layer.out_channels += len(extra)


def _read_more(layer: nn.Conv2d | nn.Linear, group: Group, link: Link, extra: Sequence[int]) -> None:
    """Insert columns for copies behind those of the group, and share the weights among a channel's copies."""
    weight = layer.weight.detach().clone()
    for channel, places in enumerate(link.places):
        weight[:, list(places)] /= 1 + list(extra).count(channel)
    last = link.places[group.channels - 1][-1] + 1
    copies = [place for channel in extra for place in link.places[channel]]
    _put(layer, "weight", torch.cat([weight[:, :last], weight[:, copies], weight[:, last:]], 1))
    if isinstance(layer, nn.Linear):
        layer.in_features += len(copies)
    else:
        layer.in_channels += len(copies)


def _put(layer: nn.Module, name: str, values: torch.Tensor) -> None:
    old = getattr(layer, name)
    setattr(layer, name, nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values)
