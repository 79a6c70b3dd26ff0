"""A network without some channels computes what it would with zeros where they were read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import nn

from netsmith.compress.channels import Channels, Kept
from netsmith.compress.dependencies import channels_of
from netsmith.compress.slicing import pruned, resized
from netsmith.errors import CompressionError
from netsmith.nn.count import count

SHAPE = (3, 16, 16)
Build = Callable[..., nn.Module]


def drawn(channels: Channels, rng: Random) -> dict[str, list[int]]:
    """Some channels of some groups, as many of each part."""
    kept = {}
    for group in channels.groups:
        run = group.channels // group.parts
        stay = rng.randint(1, run)
        if rng.random() < 0.8:
            parts = (sorted(rng.sample(range(run), stay)) for _ in range(group.parts))
            kept[group.name] = [part * run + c for part, chosen in enumerate(parts) for c in chosen]
    return kept


def masked(module: nn.Module, channels: Channels, kept: Kept) -> nn.Module:
    """The whole network, with zeros in every weight that reads a channel which is not kept."""
    made = copy.deepcopy(module)
    layers = dict(made.named_modules())
    with torch.no_grad():
        for group in channels.groups:
            gone = set(range(group.channels)) - set(kept.get(group.name, range(group.channels)))
            for link in group.links:
                if link.side == "in":
                    layer = layers[link.layer]
                    per_group = layer.weight.shape[1]
                    for place in (place for c in gone for place in link.places[c]):
                        rows = slice(None)
                        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                            height = layer.out_channels // layer.groups
                            rows = slice(place // per_group * height, (place // per_group + 1) * height)
                        layer.weight[rows, place % per_group] = 0
    return made


def test_it_computes_as_with_zeros_in_the_place_of_what_is_gone(each: nn.Module) -> None:
    module, rng = each, Random(0)
    channels = channels_of(module, SHAPE)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert channels.groups
    for _ in range(5):
        kept = drawn(channels, rng)
        small = pruned(module, channels, kept)
        with torch.no_grad():
            torch.testing.assert_close(small(x), masked(module, channels, kept)(x), atol=1e-5, rtol=1e-5)
        widths = {name: len(stay) for name, stay in kept.items()}
        assert count(small, SHAPE).macs == channels.macs(widths)
        assert channels.params(widths) == sum(p.numel() for p in small.parameters())


def test_it_trains_and_is_a_network_of_its_own(each: nn.Module) -> None:
    module = each
    before = {key: value.clone() for key, value in module.state_dict().items()}
    channels = channels_of(module, SHAPE)
    small = pruned(module, channels, drawn(channels, Random(1))).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(torch.rand(4, *SHAPE)).square().mean().backward()
    optimizer.step()
    assert all(p.grad is not None for p in small.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not module.training


def test_what_cannot_be_kept_is_refused(network: Build) -> None:
    module = network("grouped")
    channels = channels_of(module, SHAPE)
    stem = channels.groups[0]
    assert (stem.name, stem.parts) == ("stem.0", 4)
    for wrong in ([], [0, 1, 2, 3], [3, 1], [0, 0], [8], [-1]):
        with pytest.raises(CompressionError, match="as many of each of its 4 parts"):
            pruned(module, channels, {stem.name: wrong})
    with pytest.raises(CompressionError, match=r"called 'nothing'; there are stem\.0"):
        pruned(module, channels, {"nothing": [0]})


@pytest.mark.parametrize("name", ["vgg", "residual", "dense", "grouped", "mobile"])
def test_weights_of_what_is_left_make_it_again_from_the_whole(name: str, network: Build) -> None:
    whole = network(name)
    channels = channels_of(whole, SHAPE)
    left = pruned(whole, channels, drawn(channels, Random(3)))
    again = resized(whole, left.state_dict()).eval()
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(again(x), left(x))
    assert count(again, SHAPE) == count(left, SHAPE)
    assert count(whole, SHAPE).params > count(left, SHAPE).params


def test_weights_of_another_network_are_refused(network: Build) -> None:
    with pytest.raises(CompressionError, match="not of what is left of this network"):
        resized(network("vgg"), network("dense").state_dict())
