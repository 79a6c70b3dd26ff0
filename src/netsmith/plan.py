"""A plan: the blocks of one network in order, with every shape, and no weights.

A space turns an arch into a plan. Everything that must know what a network is made of
reads the plan: :mod:`netsmith.nn` builds a module from it, :mod:`netsmith.latency` looks
its blocks up in a device's table, the report draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from netsmith.errors import SpaceError


@dataclass(frozen=True, slots=True)
class Block:
    """One block: an operation and its shapes.

    ``height`` and ``width`` are those of the *input* feature map in pixels. ``hidden`` is
    the width inside the block: the expanded channels of an ``mbconv`` (equal to
    ``in_channels`` where it does not expand), the features of a ``head``; 0 elsewhere.
    """

    op: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: int = 1
    stride: int = 1
    hidden: int = 0
    shortcut: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input."""
        return (self.in_channels, self.height, self.width)

    @property
    def output_size(self) -> tuple[int, int]:
        """(H, W) of the output feature map, for padding ``kernel // 2``."""
        return (-(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def key(self) -> str:
        """Readable and unique: the name of this block in a latency table."""
        text = f"{self.op}:{self.in_channels}x{self.height}x{self.width}-{self.out_channels}"
        if self.op in ("conv", "mbconv") or (self.kernel, self.stride) != (1, 1):
            text += f":k{self.kernel}s{self.stride}"
        if self.hidden:
            text += f"h{self.hidden}"
        return text + ("+" if self.shortcut else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Block:
        """Read :meth:`to_dict`'s values. Raises :class:`SpaceError` on anything else."""
        try:
            block = cls(**data)
        except TypeError as error:
            raise SpaceError(f"not a block: {data!r:.200} ({error})") from None
        for name, value in asdict(block).items():
            wanted = {"op": str, "shortcut": bool}.get(name, int)
            if type(value) is not wanted:
                raise SpaceError(f"not a block: its {name} is a {wanted.__name__}; got {value!r:.100}")
        return block


@dataclass(frozen=True, slots=True)
class Plan:
    """The blocks of one network, first to last."""

    blocks: tuple[Block, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.blocks[0].input_shape

    @property
    def classes(self) -> int:
        """How many labels the last block tells apart."""
        return self.blocks[-1].out_channels

    def to_list(self) -> list[dict[str, Any]]:
        """Return the blocks as JSON-ready values."""
        return [block.to_dict() for block in self.blocks]

    @classmethod
    def from_list(cls, data: list[Mapping[str, Any]]) -> Plan:
        """Read :meth:`to_list`'s values."""
        return cls(tuple(Block.from_dict(item) for item in data))
