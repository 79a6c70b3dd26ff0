"""A plan: the blocks of one network in order, with every shape, and no weights.

A space turns an arch into a plan. Everything that must know what a network is made of
reads the plan: :mod:`netsmith.nn` builds a module from it, :mod:`netsmith.latency` looks
its blocks up in a device's table, the report draws it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from netsmith.errors import SpaceError

_MOST, _LONGEST_TEXT = 2**24, 512  # of what is read from outside
_CONV = re.compile(r"(\d)x(\d):(\d{1,6})(?:/(\d{1,6}))?(?:/(\d{1,6}))?")
_PART = re.compile(r"(mbconv|basic):k([13579])h(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a cell: batch norm with ReLU, batch norm alone, or a convolution that keeps the size.

    A convolution of ``groups`` has ``condense`` above 1 where each of its groups learns which inputs to keep:
    one in ``condense`` (Huang et al. 2018, section 3). Written ``norm+relu``, ``norm`` or
    ``KxK:OUT/GROUPS/CONDENSE``, of which the last numbers are left out where they are 1.
    """

    kind: str
    kernel: int = 1
    out_channels: int = 0
    groups: int = 1
    condense: int = 1

    def __str__(self) -> str:
        if self.kind != "conv":
            return self.kind
        text = f"{self.kernel}x{self.kernel}:{self.out_channels}"
        if self.groups > 1 or self.condense > 1:
            text += f"/{self.groups}"
        return text + (f"/{self.condense}" if self.condense > 1 else "")

    @classmethod
    def parse(cls, text: str) -> Layer:
        """Read what ``str`` gives, and nothing else. Raises :class:`SpaceError`."""
        layer = cls(text)
        if text not in ("norm+relu", "norm"):
            match = _CONV.fullmatch(text)
            if match is None:
                raise SpaceError(f"a layer is norm+relu, norm or KxK:OUT/GROUPS/CONDENSE; got {text!r:.100}")
            kernel, again, out, groups, condense = (int(number or 1) for number in match.groups())
            layer = cls("conv", kernel, out, groups, condense)
            odd = kernel == again and kernel % 2 == 1
            if (
                str(layer) != text
                or not odd
                or min(out, groups, condense) < 1
                or (condense > 1 and kernel > 1)
            ):
                raise SpaceError(
                    f"a layer's kernel is odd, 1x1 where it condenses, and its numbers are 1 or more; got "
                    f"{text!r:.100}"
                )
        return layer


@dataclass(frozen=True, slots=True)
class Block:
    """One block: an operation and its shapes.

    ``height`` and ``width`` are those of the *input* feature map in pixels. ``hidden`` is
    the width inside the block: the expanded channels of an ``mbconv`` (equal to
    ``in_channels`` where it does not expand), the channels between the convolutions of a ``basic`` block,
    the features of a ``head``, the inputs that a ``classifier`` keeps (0: all); 0 elsewhere. ``cell`` holds
    the layers of a ``dense`` block, or the operations of a ``sum``, written one after another; a sum with a
    ``shortcut`` adds its input to theirs, once.
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
    cell: str = ""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one input."""
        return (self.in_channels, self.height, self.width)

    @property
    def output_size(self) -> tuple[int, int]:
        """(H, W) of the output feature map: odd kernels are padded by ``kernel // 2``, even ones not."""
        lost = self.kernel - 1 if self.kernel % 2 == 0 else 0
        height, width = (-(-(size - lost) // self.stride) for size in (self.height, self.width))
        return (height, width)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the cell. Raises :class:`SpaceError` where it is not written as they are."""
        return tuple(map(Layer.parse, self.cell.split(","))) if self.cell and self.op != "sum" else ()

    @property
    def parts(self) -> tuple[Block, ...]:
        """The operations whose outputs a ``sum`` adds, each a block without shortcut; none of another block.

        Raises :class:`SpaceError` where they are not written as :func:`summed` writes them.
        """
        return tuple(map(self._part, self.cell.split(","))) if self.op == "sum" else ()

    def _part(self, text: str) -> Block:
        match = _PART.fullmatch(text)
        if match is None:
            raise SpaceError(f"an operation of a sum is mbconv:kKhH or basic:kKhH; got {text!r:.100}")
        op, kernel, hidden = match.groups()
        part = replace(self, op=op, kernel=int(kernel), hidden=int(hidden), shortcut=False, cell="")
        if f"{op}:k{part.kernel}h{part.hidden}" != text:
            raise SpaceError(f"numbers of a sum's operations have no leading zeros; got {text!r:.100}")
        return part

    @property
    def terms(self) -> tuple[Block, ...]:
        """The blocks that a ``sum`` costs as much as: each operation by itself; of another block that."""
        return tuple(map(residual, self.parts) if self.shortcut else self.parts) or (self,)

    @property
    def key(self) -> str:
        """Readable and unique: the name of this block in a latency table."""
        text = f"{self.op}:{self.in_channels}x{self.height}x{self.width}-{self.out_channels}"
        if self.op in ("conv", "mbconv") or (self.kernel, self.stride) != (1, 1):
            text += f":k{self.kernel}s{self.stride}"
        if self.hidden:
            text += f"h{self.hidden}"
        if self.cell:
            text += f"[{self.cell}]"
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
            wanted = {"op": str, "cell": str, "shortcut": bool}.get(name, int)
            if type(value) is not wanted:
                raise SpaceError(f"not a block: its {name} is a {wanted.__name__}; got {value!r:.100}")
            fits = len(value) <= _LONGEST_TEXT if isinstance(value, str) else value in range(_MOST + 1)
            if not fits:
                raise SpaceError(
                    f"not a block: numbers are 0..{_MOST} and texts of at most {_LONGEST_TEXT} letters; its "
                    f"{name} is {value!r:.100}"
                )
        if block.stride < 1 or block.kernel < 1:
            raise SpaceError(f"not a block: kernel and stride are 1 or more; got {data!r:.200}")
        _ = block.layers, block.parts
        return block


def summed(blocks: Sequence[Block]) -> Block:
    """Return the block that adds up the outputs of ``blocks``; of one block itself.

    They are ``mbconv``, ``basic``, or what :func:`residual` makes of one: all with a shortcut or none, and it
    is added once. Raises :class:`SpaceError` on another operation, or where shapes, strides or shortcuts
    differ.
    """
    if len(blocks) == 1:
        return blocks[0]
    block = _sum([part for block in blocks for part in block.parts or (block,)], blocks[0].shortcut)
    if block.terms != tuple(blocks):
        raise SpaceError(
            f"blocks of a sum have the same shapes, strides and shortcuts; got {[b.key for b in blocks]}"
        )
    return block


def residual(block: Block) -> Block:
    """Return the block that adds its input to the output of ``block``, an ``mbconv`` or ``basic``."""
    return replace(block, shortcut=True) if block.op == "mbconv" else _sum([block], True)


def bare(block: Block) -> Block:
    """Return the block that :func:`residual` made ``block`` of; another block as it is."""
    return replace(next(iter(block.parts), block), shortcut=False)


def _sum(parts: Sequence[Block], shortcut: bool) -> Block:
    written = ",".join(f"{part.op}:k{part.kernel}h{part.hidden}" for part in parts)
    return replace(parts[0], op="sum", kernel=1, hidden=0, shortcut=shortcut, cell=written)


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
