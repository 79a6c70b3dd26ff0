"""The space of ProxylessNAS (Cai et al. 2019, section 4.2): a chain of MBConv blocks.

Each block chooses its kernel and its expansion; where input and output shapes agree it
may also be skipped (the zero operation beside an identity shortcut), so depth is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from netsmith.errors import SpaceError
from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 6)
STEM_CHANNELS, FIRST_CHANNELS, HEAD_FEATURES = 32, 16, 1280


@dataclass(frozen=True, slots=True)
class Stage:
    """``blocks`` blocks of ``width`` output channels, the first with ``stride``."""

    width: int
    blocks: int
    stride: int


# At 28 pixels and more the published chain of 21 blocks; a small image has no room for its five
# halvings, and a chain that deep costs more in calls of the runtime than in arithmetic.
_Layout = tuple[tuple[int, int], ...]
_FULL: _Layout = ((24, 4), (40, 4), (80, 4), (96, 4), (192, 4), (320, 1))
_FULL_STRIDES = (2, 2, 2, 2, 1, 2, 1)  # of the stem, then of the stages
_MEDIUM: _Layout = ((24, 3), (40, 4), (80, 4), (160, 3))
_MEDIUM_STRIDES = (1, 1, 2, 2, 2)
_SMALL: _Layout = ((24, 3), (40, 3), (80, 3))
_SMALL_STRIDES = (1, 1, 2, 2)


def round_width(channels: float) -> int:
    """Round to a multiple of 8, at least 8, never below 90 % (the MobileNet rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def halve_less(strides: Sequence[int], size: int) -> tuple[int, ...]:
    """Drop the earliest halvings until a map of ``size`` pixels ends at about 4 or more."""
    kept = max(0, round(log2(size / 4)))
    result = list(strides)
    for i, stride in enumerate(strides):
        if sum(s == 2 for s in result) <= kept:
            break
        result[i] = 1 if stride == 2 else stride
    return tuple(result)


def default_stages(size: int) -> tuple[int, tuple[Stage, ...]]:
    """Return the stem's stride and the stages for square images of ``size`` pixels."""
    if size >= 28:
        layout, strides = _FULL, halve_less(_FULL_STRIDES, size)
    elif size >= 14:
        layout, strides = _MEDIUM, halve_less(_MEDIUM_STRIDES, size)
    else:
        layout, strides = _SMALL, halve_less(_SMALL_STRIDES, size)
    pairs = zip(layout, strides[1:], strict=True)
    return strides[0], tuple(Stage(width, blocks, stride) for (width, blocks), stride in pairs)


def mbconv(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    stages: Sequence[Stage] | None = None,
    stem_stride: int | None = None,
    kernels: Sequence[int] = KERNELS,
    expansions: Sequence[int] = EXPANSIONS,
) -> ChainSpace:
    """Build the space for images of ``input_shape`` (C, H, W) and ``classes`` labels.

    ``width`` multiplies every number of channels. ``stages`` and ``stem_stride`` replace the
    layout that follows the image size. At 224x224 and width 1 this is the published space:
    21 blocks to choose, 6^6 * 7^15 archs. Raises :class:`SpaceError` on what cannot be built.
    """
    channels, height, image_width = input_shape
    check_layout("mbconv", input_shape, classes, width, stages, stem_stride)
    check_mbconvs(kernels, expansions)
    stride, layout = default_stages(min(height, image_width))
    stride = stem_stride if stem_stride is not None else stride
    layout = tuple(stages) if stages is not None else layout

    stem_width, first_width = (
        round_width(STEM_CHANNELS * width),
        round_width(FIRST_CHANNELS * width),
    )
    stem = Block("conv", channels, stem_width, height, image_width, kernel=3, stride=stride)
    first = Block("mbconv", stem_width, first_width, *stem.output_size, kernel=3, hidden=stem_width)
    edges: list[tuple[Block, ...]] = []
    last = first
    for stage in layout:
        for i in range(stage.blocks):
            edges.append(
                _options(last, round_width(stage.width * width), stage.stride if i == 0 else 1,
                         kernels, expansions)
            )  # fmt: skip
            last = edges[-1][0]
    features = HEAD_FEATURES if stages is None and len(layout) == len(_FULL) else 4 * layout[-1].width
    head = Block("head", last.out_channels, classes, *last.output_size, hidden=round_width(features * width))
    return ChainSpace("mbconv", (stem, first), tuple(edges), (head,))


def _options(
    last: Block, width: int, stride: int, kernels: Sequence[int], expansions: Sequence[int]
) -> tuple[Block, ...]:
    """Every MBConv that may follow ``last``, kernels outermost, and the skip where shapes agree."""
    same = stride == 1 and last.out_channels == width
    shape = (last.out_channels, width, *last.output_size)
    options = [
        Block("mbconv", *shape, kernel=k, stride=stride, hidden=shape[0] * e, shortcut=same)
        for k in kernels
        for e in expansions
    ]
    return (*options, Block("skip", *shape)) if same else tuple(options)


def check_layout(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    width: float,
    stages: Sequence[Stage] | None,
    stem_stride: int | None,
) -> None:
    """Raise :class:`SpaceError` unless space ``name`` can be laid out so; None follows the image size."""
    if min(input_shape) < 1 or min(input_shape[1:]) < 8:
        raise SpaceError(
            f"space '{name}' takes images of (channels, height, width) from 8x8 pixels up; "
            f"got {input_shape}. Resize smaller images first"
        )
    if classes < 2:
        raise SpaceError(f"a classifier needs at least 2 classes; got {classes}")
    if not 0 < width <= 8:
        raise SpaceError(f"width is a multiplier above 0 and up to 8; got {width}")
    if stages is not None and (not stages or any(s.width < 1 or s.blocks < 1 for s in stages)):
        raise SpaceError(f"stages need a width and a number of blocks from 1 up; got {stages}")
    if stages is not None and any(s.stride not in (1, 2) for s in stages):
        raise SpaceError(f"the stride of a stage is 1 or 2; got {stages}")
    if stem_stride not in (None, 1, 2):
        raise SpaceError(f"the stride of the stem is 1 or 2; got {stem_stride}")


def check_mbconvs(kernels: Sequence[int], expansions: Sequence[int]) -> None:
    """Raise :class:`SpaceError` unless MBConv blocks can have these kernels and expansions."""
    if not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
        raise SpaceError(f"kernels are odd numbers from 1 up; got {list(kernels)}")
    if not expansions or any(e < 1 for e in expansions):
        raise SpaceError(f"expansions are whole numbers from 1 up; got {list(expansions)}")
