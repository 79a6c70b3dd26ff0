"""Groups are those that the networks' structure has; what cannot be pruned is named with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from netsmith.compress.channels import Channels
from netsmith.compress.dependencies import channels_of
from netsmith.errors import CompressionError

SHAPE = (3, 16, 16)
Build = Callable[..., nn.Module]


def found(module: nn.Module) -> tuple[Channels, dict[str, tuple[set[str], set[str]]]]:
    """Of each group the layers that make and that read its channels."""
    channels = channels_of(module, SHAPE)
    sides = {
        group.name: (
            {link.layer for link in group.links if link.side == "out"},
            {link.layer for link in group.links if link.side == "in"},
        )
        for group in channels.groups
    }
    return channels, sides


def test_a_residual_joins_its_branches_and_the_stem(network: Build) -> None:
    channels, sides = found(network("residual"))
    made, read = sides["stem.0"]
    assert made == {"stem.0", "stem.1", "first.1", "first.2", "second.1", "second.2"}
    assert read == {"first.0.0", "second.0.0", "classifier"}
    assert len(sides) == 3
    assert channels.untouched == {"classifier": "nothing reads its channels: they are the output"}


def test_a_flattening_spreads_a_channel_over_inputs(network: Build) -> None:
    channels, _ = found(network("vgg"))
    last = next(group for group in channels.groups if group.name == "features.4.0")
    (reader,) = (link for link in last.links if link.layer == "hidden")
    assert reader.places[3] == tuple(range(48, 64))
    assert [group.name for group in channels.groups] == [
        "features.0.0",
        "features.2.0",
        "features.4.0",
        "hidden",
    ]


def test_a_concatenation_moves_channels(network: Build) -> None:
    channels, _ = found(network("dense"))
    places = {
        group.name: {link.layer: link.places[0] for link in group.links if link.side == "in"}
        for group in channels.groups
    }
    assert places == {
        "stem.0": {"first.0": (0,), "second.0": (0,), "classifier": (6,)},
        "first.0": {"second.0": (8,), "classifier": (14,)},
        "second.0": {"classifier": (0,)},
    }


def test_grouped_convolutions_ask_for_as_many_of_each_part(network: Build) -> None:
    channels, sides = found(network("grouped"))
    assert {group.name: group.parts for group in channels.groups} == {
        "stem.0": 4,
        "grouped.0": 4,
        "last.0": 1,
    }
    assert sides["grouped.0"][0] == {"grouped.0", "grouped.1", "depthwise.0", "depthwise.1"}


def test_layers_that_are_not_understood_are_left_alone() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)
            self.second, self.classifier = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.classifier(self.second(self.norm(self.first(x))).mean((2, 3)))
            return out

    channels, sides = found(Odd())
    assert set(sides) == {"second"}
    assert "'norm' is a GroupNorm" in channels.untouched["first"]


def test_what_depends_on_a_number_of_channels_is_left_alone() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.classifier = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
            self.register_buffer("scale", torch.ones(1, 8, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.classifier((self.first(x) * self.scale).mean((2, 3)))
            return out

    channels, sides = found(Fixed())
    assert not sides
    assert "fails" in channels.untouched["first"]


def test_the_network_is_left_as_it_was(each: nn.Module) -> None:
    module = each.train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    channels_of(module, SHAPE)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_network_that_cannot_be_run_is_refused(network: Build) -> None:
    with pytest.raises(CompressionError, match=r"cannot be run on an image of \(1, 16, 16\)"):
        channels_of(network("vgg"), (1, 16, 16))
