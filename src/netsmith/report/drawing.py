"""The drawing of a network: where each block stands in the picture, and what is written on it.

Every block is a bead on a line. Its height at the left, in the middle and at the right follows the
square root of its channels in, hidden and out, so that a layer of four times the width is drawn
twice as high and the narrow ones stay visible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

from netsmith.plan import Block
from netsmith.report.folder import Folder
from netsmith.report.text import TIMES

GUTTER, TOP, HALF, BARS = 78, 34, 74, 58
WIDTH, LEAST_COLUMN, MOST_COLUMN = 1120, 44, 92
_KEY = re.compile(r"(\w+):(\d+)x\d+x\d+-\d+(?::k(\d+)s\d+)?(?:h(\d+))?\+?")

_LAST = ("head", "classifier")
_FIXED_LABELS = {"conv": "stem", "stem": "stem", "pool": "pool", "head": "head", "classifier": "head"}


@dataclass(frozen=True, slots=True)
class Bead:
    """One block in the picture, in the picture's own units."""

    label: str
    block: Block
    searched: bool
    x: float
    width: float
    outline: str
    arc: str
    expansion: str
    share: float | None
    """Its part of the network's predicted latency, 0..1."""
    latency_ms: float | None
    bar: float

    @property
    def middle(self) -> float:
        """The x of its middle."""
        return self.x + self.width / 2

    @property
    def skipped(self) -> bool:
        """Whether the search left this block out."""
        return self.block.op == "skip"

    @property
    def kernel(self) -> int | None:
        """The largest kernel of an MBConv, a dense layer or a sum; None of what is not coloured by it."""
        if self.block.op in ("dense", "sum"):
            layers = [layer.kernel for layer in self.block.layers]
            return max((*layers, *(part.kernel for part in self.block.parts)), default=None)
        return self.block.kernel if self.block.op == "mbconv" else None

    @property
    def hidden(self) -> int:
        """Channels inside: of a dense layer those of its widest convolution."""
        return _hidden(self.block)

    @property
    def operation(self) -> str:
        """The operation, with the layers of a cell or the operations of a sum."""
        cell = f": {self.block.cell.replace(',', ', ')}" if self.block.cell else ""
        return f"{self.block.op}{cell}{' + shortcut' if self.block.shortcut else ''}"

    @property
    def shade(self) -> str:
        """The class that colours it: by its kernel where it is an MBConv or a dense layer."""
        if self.kernel is not None:
            return f"k{self.kernel}" if self.kernel in (3, 5, 7) else "other"
        return {"skip": "skip", "conv": "conv", "stem": "conv"}.get(
            self.block.op, "head" if self.block.op in _LAST else "other"
        )

    @property
    def size(self) -> str:
        """The resolution of its output."""
        return TIMES.join(
            str(side) for side in ((1, 1) if self.block.op in _LAST else self.block.output_size)
        )


@dataclass(frozen=True, slots=True)
class Band:
    """Neighbouring blocks whose outputs have one resolution."""

    text: str
    x: float
    width: float
    odd: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """A whole network, ready to be written as SVG."""

    beads: tuple[Bead, ...]
    bands: tuple[Band, ...]
    width: float
    axis: float
    """The y of the line on which the beads are."""

    @property
    def labels_y(self) -> float:
        """The y of the first line of text under the beads."""
        return self.axis + HALF + 24

    @property
    def floor(self) -> float:
        """The y on which the latency bars stand."""
        return self.labels_y + 62 + BARS + 16

    @property
    def height(self) -> float:
        """The height of the picture."""
        return self.floor + 24


def draw(folder: Folder) -> Drawing | None:
    """Lay the chosen network out from left to right; None before there is one."""
    if not folder.plan:
        return None
    return lay_out(folder.plan, folder.block_ms, folder.first_choice, len(folder.arch.get("edges", [])))


def lay_out(
    plan: Sequence[Block], costs: Sequence[float] = (), first: int | None = None, count: int = 0
) -> Drawing:
    """Lay a network out: ``count`` blocks from ``first`` on were searched; ``costs`` are predicted ms."""
    column = min(MOST_COLUMN, max(LEAST_COLUMN, (WIDTH - GUTTER) / len(plan)))
    axis = TOP + HALF
    widest = max(
        max(b.in_channels, _hidden(b), b.out_channels) for b in plan if b.op not in _LAST or len(plan) == 1
    )
    total, most = sum(costs), max(costs, default=0.0)
    beads: list[Bead] = []
    for i, block in enumerate(plan):
        searched = block.op == "dense" or (first is not None and first <= i < first + count)
        number = sum(bead.searched for bead in beads) + 1
        x = GUTTER + i * column
        beads.append(
            Bead(
                label=str(number) if searched else _FIXED_LABELS.get(block.op, "fixed"),
                block=block,
                searched=searched,
                x=x,
                width=column,
                outline=_outline(block, x + 4, column - 8, axis, widest),
                arc=_arc(block, x, column, axis),
                expansion=_expansion(block),
                share=costs[i] / total if total else None,
                latency_ms=costs[i] if costs else None,
                bar=BARS * costs[i] / most if most else 0.0,
            )
        )
    return Drawing(tuple(beads), _bands(beads), GUTTER + len(plan) * column, axis)


def option_name(key: str) -> str:
    """Name an option of an edge apart from its place: ``5×5 e6`` from ``mbconv:24x14x14-24:k5s1h144+``."""
    match = _KEY.fullmatch(key)
    if match is None:
        return key
    op, channels, kernel, hidden = match.groups()
    if op != "mbconv" or not kernel:
        return op
    return f"{kernel}{TIMES}{kernel} e{int(hidden or 0) / int(channels):g}"


def _hidden(block: Block) -> int:
    inside = [*(layer.out_channels for layer in block.layers), *(part.hidden for part in block.parts)]
    return block.hidden or max(inside, default=0)


def _expansion(block: Block) -> str:
    return f"{round(block.hidden / block.in_channels, 1):g}" if block.op == "mbconv" and block.hidden else ""


def _outline(block: Block, x: float, width: float, axis: float, widest: int) -> str:
    """Points of the bead, clockwise from the upper left; the head is cut to the picture's height."""

    def half(channels: int) -> float:
        return max(3.0, HALF * min(1.0, sqrt(channels / widest)))

    middle = _hidden(block) or (block.in_channels + block.out_channels) // 2
    heights = (half(block.in_channels), half(middle), half(middle), half(block.out_channels))
    places = (x, x + 0.3 * width, x + 0.7 * width, x + width)
    upper = [(px, axis - h) for px, h in zip(places, heights, strict=True)]
    lower = [(px, axis + h) for px, h in zip(places, heights, strict=True)]
    return " ".join(f"{px:.1f},{py:.1f}" for px, py in (*upper, *reversed(lower)))


def _arc(block: Block, x: float, width: float, axis: float) -> str:
    """The shortcut, drawn over the bead."""
    if not block.shortcut:
        return ""
    top, right = axis - HALF - 8, x + width
    return (
        f"M{x:.1f},{axis:.1f} V{top + 6:.1f} Q{x:.1f},{top:.1f} {x + 6:.1f},{top:.1f} "
        f"H{right - 6:.1f} Q{right:.1f},{top:.1f} {right:.1f},{top + 6:.1f} V{axis:.1f}"
    )


def _bands(beads: list[Bead]) -> tuple[Band, ...]:
    bands: list[Band] = []
    for size, group in groupby(beads, key=lambda bead: bead.size):
        members = list(group)
        bands.append(Band(size, members[0].x, sum(bead.width for bead in members), odd=len(bands) % 2 == 1))
    return tuple(bands)
