"""Networks that have a plan: which of its widths a group of channels is, and the network without some."""

from __future__ import annotations

from typing import Literal

from netsmith.compress.channels import Channels, Group, Kept
from netsmith.compress.slicing import pruned
from netsmith.nn.network import Network
from netsmith.plan import Plan
from netsmith.spaces.pruned import Field, Narrowing, PrunedSpace

# What a layer of a block makes, by the block's operation and the layer's name inside it.
_MADE: dict[tuple[str, str], Literal["out_channels", "hidden"]] = {
    ("conv", "conv"): "out_channels",
    ("mbconv", "expand.0"): "hidden",
    ("mbconv", "project.0"): "out_channels",
    ("basic", "first"): "hidden",
    ("basic", "second"): "out_channels",
    ("head", "conv"): "hidden",
}


def pruned_space(plan: Plan, channels: Channels, widths: dict[str, list[int]]) -> PrunedSpace:
    """Return the space of a plan's network with such ``widths`` of its groups to choose from.

    Groups that are made elsewhere than in the blocks known here stay whole. Raises
    :class:`netsmith.errors.SpaceError` where none is left.
    """
    found = []
    for group in channels.groups:
        fields = _fields(plan, group)
        if fields:
            found.append(Narrowing(group.name, tuple(widths[group.name]), fields))
    return PrunedSpace(plan, tuple(found))


def pruned_network(network: Network, plan: Plan, channels: Channels, kept: Kept) -> Network:
    """Return the network of ``plan`` with what ``kept`` leaves of the weights of ``network``.

    Its weights must fit the plan exactly, which is what proves that plan and weights were cut alike.
    """
    made = Network(plan)
    made.load_state_dict(pruned(network, channels, kept).state_dict())
    return made.eval()


def _fields(plan: Plan, group: Group) -> tuple[Field, ...]:
    """The widths of a plan's blocks that a group is; none where it is made in a block that is not known."""
    fields: list[Field] = []
    for link in group.links:
        if link.side == "in":
            continue
        number, _, layer = link.layer.removeprefix("blocks.").partition(".")
        op = plan.blocks[int(number)].op
        field = _MADE.get((op, layer))
        if field is not None:
            fields.append((int(number), field))
        elif op not in ("conv", "mbconv", "basic", "head"):
            return ()
    return tuple(fields)
