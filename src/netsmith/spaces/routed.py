"""The space of InstaNAS (Cheng et al. 2018, section 3.1): blocks of which any subset of operations is active.

An arch is one policy: the path of one image through the routed network, and a static network by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from netsmith.arch import Arch
from netsmith.errors import SpaceError
from netsmith.plan import Block, Plan, bare, residual, summed
from netsmith.spaces.chain import chain_id, check_chain
from netsmith.spaces.choices import ChoiceSpace
from netsmith.spaces.mbconv import (
    HEAD_FEATURES,
    STEM_CHANNELS,
    Stage,
    check_layout,
    check_mbconvs,
    halve_less,
    round_width,
)

MBCONVS = ((3, 6), (3, 3), (5, 6), (5, 3))
"""Kernel and expansion of the published operations; beside them stands a block of two 3x3 convolutions."""

# The layout of MobileNetV2 (Sandler et al. 2018, table 2) at 28 pixels and more, its beginning below.
_LAYOUT = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))
_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)  # of the stem, then of the stages
_MEDIUM_STAGES, _SMALL_STAGES = 4, 3


@dataclass(frozen=True)
class RoutedSpace(ChoiceSpace):
    """A fixed stem, edges of which each adds up what its active operations give, and a fixed head.

    An edge that may be skipped adds its input to them, once: with operations or without, what it gives is its
    input and something more. (In the release each MBConv of such an edge adds the input again: behind a few
    edges images of several operations are many times as large as others, and a short pre-training hardly
    learns anything along paths drawn at random.)

    ``edges[i][j]`` is operation ``j`` of edge ``i``; bit ``j`` of choice ``i`` says whether it is active.
    Where none is, the edge is skipped if its shapes agree; else its last operation stands in, and the choice
    is written as that, so that no two archs are one network. Every edge has as many operations as the others,
    so that a policy is a rectangle of yes and no. Raises :class:`SpaceError` where operations of an edge
    differ in their shapes or cannot be added up, or edges in their number of operations, or where an
    operation of an edge that may be skipped does not add its input, being no :func:`residual`.
    """

    name: str
    stem: tuple[Block, ...]
    edges: tuple[tuple[Block, ...], ...]
    head: tuple[Block, ...]

    def __post_init__(self) -> None:
        check_chain(self.name, self.stem, self.edges, self.head)
        for operations in self.edges:
            summed(operations)
        for operations, skippable in zip(self.edges, self.skippable, strict=True):
            for block in operations:
                if block != (residual(bare(block)) if skippable else bare(block)):
                    raise SpaceError(
                        f"operations of space '{self.name}' have a shortcut where their shapes agree, by "
                        f"netsmith.plan.residual; got {block.key}"
                    )
        if len(numbers := set(map(len, self.edges))) != 1:
            raise SpaceError(
                f"every edge of space '{self.name}' has the same number of operations; got {sorted(numbers)}"
            )

    @cached_property
    def id(self) -> str:
        """The name with a digest of every block, such as ``routed-1f0c9a3e``."""
        return chain_id(self.name, self.stem, self.edges, self.head)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (*self.stem, *self.edges[0], *self.head)[0].input_shape

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Every distinct block that the cost of a path is a sum of: what a latency table must hold."""
        return tuple(dict.fromkeys([*self.stem, *(b for edge in self.edges for b in edge), *self.head]))

    @cached_property
    def skippable(self) -> tuple[bool, ...]:
        """Whether each edge may be skipped: its input and output have the same shape."""
        firsts = [edge[0] for edge in self.edges]
        return tuple(b.input_shape == (b.out_channels, *b.output_size) for b in firsts)

    @cached_property
    def options(self) -> tuple[range, ...]:
        """The sets of operations that each edge may have active, as bits; 0, a skip, only where it may be."""
        pairs = zip(self.edges, self.skippable, strict=True)
        return tuple(range(0 if skippable else 1, 2 ** len(edge)) for edge, skippable in pairs)

    @cached_property
    def alternatives(self) -> tuple[Mapping[int, Block], ...]:
        """The block that each set of operations of each edge is: a skip, one of them, or a sum."""
        pairs = zip(self.edges, self.options, strict=True)
        return tuple({bits: _block(edge, bits) for bits in values} for edge, values in pairs)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many sets of operations each edge has."""
        return tuple(map(len, self.options))

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each edge by its place, and what each set of its operations is called; "-" is none."""
        return {
            f"block {number:02}": tuple(
                " + ".join(b.key for b in _active(edge, bits)) or "-" for bits in range(2 ** len(edge))
            )
            for number, edge in enumerate(self.edges, 1)
        }

    def arch(self, choices: tuple[int, ...]) -> Arch:
        """Return the arch of these sets, checked; 0 is the last operation where there must be one."""
        stand_ins = [0 if values.start == 0 else values.stop // 2 for values in self.options]
        written = [c or s for c, s in zip(choices, stand_ins, strict=False)]
        arch = Arch(self.id, (*written, *choices[len(written) :]))  # one of another length check() refuses
        self.check(arch)
        return arch

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """One number for each operation of each edge: 1 where it is active."""
        self.check(arch)
        pairs = zip(arch.choices, self.edges, strict=True)
        return tuple(float(bits >> j & 1) for bits, edge in pairs for j in range(len(edge)))

    def plan(self, arch: Arch) -> Plan:
        """Return the static network of one path: each edge a skip, one operation, or a sum of several."""
        self.check(arch)
        chosen = (blocks[bits] for blocks, bits in zip(self.alternatives, arch.choices, strict=True))
        return Plan((*self.stem, *chosen, *self.head))


def _active(operations: Sequence[Block], bits: int) -> list[Block]:
    return [block for j, block in enumerate(operations) if bits >> j & 1]


def _block(operations: Sequence[Block], bits: int) -> Block:
    first = operations[0]
    if not bits:
        return Block("skip", first.in_channels, first.out_channels, first.height, first.width)
    return summed(_active(operations, bits))


def routed(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    stages: Sequence[Stage] | None = None,
    stem_stride: int | None = None,
    mbconvs: Sequence[tuple[int, int]] = MBCONVS,
) -> RoutedSpace:
    """Build the space for images of ``input_shape`` (C, H, W) and ``classes`` labels.

    ``width`` multiplies every number of channels. ``stages`` and ``stem_stride`` replace the layout that
    follows the image size. ``mbconvs`` are kernel and expansion of the operations before the block of two
    3x3 convolutions, which is the last of each edge. At 32x32 and width 1 this is the published space: 17
    edges of 5 operations, of which 7 begin a stage: 31^7 * 32^10 archs. Raises :class:`SpaceError` on what
    cannot be built.
    """
    check_layout("routed", input_shape, classes, width, stages, stem_stride)
    check_mbconvs([kernel for kernel, _ in mbconvs], [expansion for _, expansion in mbconvs])
    channels, height, image_width = input_shape
    stride, layout = default_stages(min(height, image_width))
    stride = stem_stride if stem_stride is not None else stride
    layout = tuple(stages) if stages is not None else layout
    stem = Block(
        "conv", channels, round_width(STEM_CHANNELS * width), height, image_width, kernel=3, stride=stride
    )
    edges: list[tuple[Block, ...]] = []
    last = stem
    for stage in layout:
        for i in range(stage.blocks):
            edges.append(
                _operations(last, round_width(stage.width * width), stage.stride if i == 0 else 1, mbconvs)
            )
            last = edges[-1][0]
    published = stages is None and len(layout) == len(_LAYOUT)
    features = HEAD_FEATURES * max(1.0, width) if published else 4 * layout[-1].width * width
    head = Block("head", last.out_channels, classes, *last.output_size, hidden=round_width(features))
    return RoutedSpace("routed", (stem,), tuple(edges), (head,))


def default_stages(size: int) -> tuple[int, tuple[Stage, ...]]:
    """Return the stem's stride and the stages for square images of ``size`` pixels."""
    number = len(_LAYOUT) if size >= 28 else _MEDIUM_STAGES if size >= 14 else _SMALL_STAGES
    stem, *strides = halve_less(_STRIDES[: number + 1], size)
    pairs = zip(_LAYOUT[:number], strides, strict=True)
    return stem, tuple(Stage(width, blocks, stride) for (width, blocks), stride in pairs)


def _operations(
    last: Block, width: int, stride: int, mbconvs: Sequence[tuple[int, int]]
) -> tuple[Block, ...]:
    """Return the operations of one edge, each with its input added where shapes agree."""
    same = stride == 1 and last.out_channels == width
    shape = (last.out_channels, width, *last.output_size)
    options = [
        Block("mbconv", *shape, kernel=kernel, stride=stride, hidden=shape[0] * expansion)
        for kernel, expansion in mbconvs
    ]
    options.append(Block("basic", *shape, kernel=3, stride=stride, hidden=width))
    return tuple(map(residual, options) if same else options)
