"""The space of a network with fewer channels: of every group of channels that go together, how many stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from netsmith.arch import Arch
from netsmith.errors import SpaceError
from netsmith.plan import Block, Plan
from netsmith.spaces.choices import ChoiceSpace

Field = tuple[int, Literal["out_channels", "hidden"]]
"""A block, by its place in the plan, and which of its widths; what it takes follows from the block before."""


@dataclass(frozen=True)
class Narrowing:
    """A group of channels: the widths it may have, ascending, and the fields that hold them."""

    name: str
    widths: tuple[int, ...]
    fields: tuple[Field, ...] = ()


class NarrowedSpace(ChoiceSpace):
    """The networks that are left of one when channels of ``groups`` are taken out of it.

    Raises :class:`SpaceError` where there is nothing to take.
    """

    groups: tuple[Narrowing, ...]

    def __post_init__(self) -> None:
        if not self.groups or any(
            not g.widths or list(g.widths) != sorted(set(g.widths)) for g in self.groups
        ):
            raise SpaceError(
                "a pruned space needs groups of channels, each with its widths, ascending; got "
                f"{[(g.name, g.widths) for g in self.groups]!r:.200}"
            )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many widths each group has."""
        return tuple(len(group.widths) for group in self.groups)

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each group by its name, and its widths."""
        return {group.name: tuple(map(str, group.widths)) for group in self.groups}

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """Return the share of its channels that each group keeps."""
        self.check(arch)
        chosen = zip(self.groups, arch.choices, strict=True)
        return tuple(group.widths[choice] / group.widths[-1] for group, choice in chosen)

    def nearest(self, widths: Mapping[str, int]) -> Arch:
        """Return the arch of the widths nearest to these, by group; a group that is not named is whole."""
        choices = (
            min(range(len(g.widths)), key=lambda i: abs(g.widths[i] - widths.get(g.name, g.widths[-1])))
            for g in self.groups
        )
        return self.arch(tuple(choices))

    def widths(self, arch: Arch) -> dict[str, int]:
        """Return how many channels of every group stay."""
        self.check(arch)
        return {g.name: g.widths[choice] for g, choice in zip(self.groups, arch.choices, strict=True)}


@dataclass(frozen=True)
class WidthSpace(NarrowedSpace):
    """What is left of a network that has no plan; ``network`` tells it from others, such as by a digest."""

    network: str
    groups: tuple[Narrowing, ...]

    @cached_property
    def id(self) -> str:
        """The name with a digest of the network and the widths."""
        return _id("widths", [self.network, [[g.name, g.widths] for g in self.groups]])


@dataclass(frozen=True)
class PrunedSpace(NarrowedSpace):
    """What is left of the network of the plan ``base``, as plans."""

    base: Plan
    groups: tuple[Narrowing, ...]

    @cached_property
    def id(self) -> str:
        """The name with a digest of the base and the widths."""
        return _id("pruned", [self.base.to_list(), [[g.name, g.widths, g.fields] for g in self.groups]])

    def widths(self, arch: Arch) -> dict[str, int]:
        """Return how many channels of every group stay.

        A block that expands must not come out as wide inside as what it takes: it would be read as one that
        does not. It keeps the next more channels, or fewer where there are no more.
        """
        found = super().widths(arch)
        taken = self._taken(found)
        for group in self.groups:
            inside = [i for i, name in group.fields if name == "hidden" and _expands(self.base.blocks[i])]
            if any(found[group.name] == taken[i] for i in inside):
                place = group.widths.index(found[group.name])
                found[group.name] = group.widths[place + 1 if place + 1 < len(group.widths) else place - 1]
        return found

    def plan(self, arch: Arch) -> Plan:
        """Return the blocks of the base with the channels that stay."""
        return Plan(tuple(self._blocks(self.widths(arch))))

    def _taken(self, widths: Mapping[str, int]) -> list[int]:
        """How many channels each block takes."""
        given = {i: widths[g.name] for g in self.groups for i, name in g.fields if name == "out_channels"}
        taken = [self.base.blocks[0].in_channels]
        for i, block in enumerate(self.base.blocks[:-1]):
            taken.append(taken[-1] if block.op == "skip" else given.get(i, block.out_channels))
        return taken

    def _blocks(self, widths: Mapping[str, int]) -> Iterator[Block]:
        inside = {i: widths[g.name] for g in self.groups for i, name in g.fields if name == "hidden"}
        taken = self._taken(widths)
        given = [*taken[1:], self.base.blocks[-1].out_channels]
        for i, block in enumerate(self.base.blocks):
            hidden = inside.get(i, block.hidden)
            if block.op == "mbconv" and not _expands(block):
                hidden = taken[i]
            yield replace(block, in_channels=taken[i], out_channels=given[i], hidden=hidden)


def _id(kind: str, definition: list[Any]) -> str:
    digest = hashlib.blake2b(json.dumps(definition).encode(), digest_size=4).hexdigest()
    return f"{kind}-{digest}"


def _expands(block: Block) -> bool:
    return block.op == "mbconv" and block.hidden != block.in_channels
