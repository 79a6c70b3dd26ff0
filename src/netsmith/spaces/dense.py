"""The space of DPP-Net (Dong et al. 2018): the cell that is every layer of a densely connected network.

A cell is a chain of layers, norms and convolutions in turn. The network around it is fixed: the stem,
stages of dense layers with twice the growth from stage to stage, averages of 2x2 pixels between them, and
the classifier, as in CondenseNet (Huang et al. 2018). The paper's cells of n pairs are 18^n.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import takewhile
from math import log2, prod
from random import Random

from netsmith.arch import Arch
from netsmith.errors import ArchError, SpaceError
from netsmith.plan import Block, Layer, Plan
from netsmith.spaces.choices import check_decisions

NORMS = ("norm+relu", "norm", "none")
CONVS = ("1x1", "3x3", "1x1 group", "3x3 group", "1x1 learned group", "3x3 depthwise")
GROUPS, CONDENSE, BOTTLENECK = 4, 4, 4  # of CondenseNet

_LAYERS, _GROWTH, _MOST_DEPTH = 3, 8, 16
_STEM_HALVES = 56  # pixels from which the stem has stride 2
_SHORTEST = 2  # layers: below is no convolution


@dataclass(frozen=True, slots=True)
class DenseStage:
    """``layers`` dense layers, each of which adds ``growth`` channels."""

    layers: int
    growth: int


@dataclass(frozen=True)
class DenseSpace:
    """Cells of one pair of layers, norm and convolution, up to ``depth`` pairs; the last may lack its second.

    ``choices`` has ``2 * depth`` numbers: 1..3 of ``NORMS`` and 1..6 of ``CONVS`` in turn, 0 behind the end.
    """

    input_shape: tuple[int, int, int]
    classes: int
    stages: tuple[DenseStage, ...]
    stem_stride: int
    depth: int

    @cached_property
    def id(self) -> str:
        """The name with a digest of the definition."""
        text = json.dumps(astuple(self))
        return f"dense-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many layers each place of a cell chooses from."""
        return (len(NORMS), len(CONVS)) * self.depth

    @property
    def decisions(self) -> dict[str, tuple[str, ...]]:
        """Each layer of a cell by its number, and what it may be; "-" is none."""
        return {f"layer {i + 1}": ("-", *(NORMS, CONVS)[i % 2]) for i in range(len(self.sizes))}

    @property
    def vocabulary(self) -> int:
        """Nine: the norms are 1..3 and the convolutions 4..9."""
        return len(NORMS) + len(CONVS)

    def count(self) -> int:
        """How many archs there are, exactly: the cells of every length."""
        return sum(prod(self.sizes[:length]) for length in self._lengths)

    @property
    def options(self) -> tuple[range, ...]:
        """What each place of a cell may hold; 0, where the cell may end, is none."""
        return tuple(range(int(i < _SHORTEST), size + 1) for i, size in enumerate(self.sizes))

    def arch(self, layers: Sequence[int]) -> Arch:
        """Return the arch of these layers, each by its number, up to the first 0; checked."""
        kept = tuple(takewhile(bool, layers))
        arch = self._padded(kept)
        self.check(arch)
        return arch

    def sample(self, rng: Random) -> Arch:
        """Draw an arch uniformly; the longest cells are by far the most."""
        number = rng.randrange(self.count())
        for length in self._lengths:
            if number < (of_length := prod(self.sizes[:length])):
                break
            number -= of_length
        layers = []
        for size in self.sizes[:length]:
            number, layer = divmod(number, size)
            layers.append(layer + 1)
        return self._padded(tuple(layers))

    def mutate(self, arch: Arch, rng: Random) -> Arch:
        """Return one of the neighbours, all alike."""
        return rng.choice(list(self.neighbours(arch)))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Yield every arch that has another layer at one place, then those of a layer less or more."""
        layers = self._layers(arch)
        for i, size in enumerate(self.sizes[: len(layers)]):
            for layer in range(1, size + 1):
                if layer != layers[i]:
                    yield self._padded((*layers[:i], layer, *layers[i + 1 :]))
        if len(layers) > _SHORTEST:
            yield self._padded(layers[:-1])
        yield from self.children(arch)

    def cross(self, first: Arch, second: Arch, rng: Random) -> Arch:
        """Take the length from one parent, and each layer from one of those that have it."""
        parents = self._layers(first), self._layers(second)
        longer = max(parents, key=len)
        length = len(parents[rng.randrange(2)])
        pairs = [pair[rng.randrange(2)] for pair in zip(*parents, strict=False)]
        return self._padded((*pairs, *longer[len(pairs) :])[:length])

    def encode(self, arch: Arch) -> tuple[float, ...]:
        """One-hot of every place, the end among its options."""
        self.check(arch)
        return tuple(
            float(choice == j)
            for choice, size in zip(arch.choices, self.sizes, strict=True)
            for j in range(size + 1)
        )

    def check(self, arch: Arch) -> None:
        """Raise :class:`ArchError` unless ``arch`` is a point of this space."""
        check_decisions(arch, self.id, [range(size + 1) for size in self.sizes])
        length = len(self._cut(arch))
        if length < _SHORTEST or any(arch.choices[length:]):
            raise ArchError(
                f"a cell has at least {_SHORTEST} layers, and 0 stands behind the last; got {arch.choices}"
            )

    def children(self, arch: Arch | None) -> Iterator[Arch]:
        """Yield every arch that is ``arch`` with one layer more; of None the cells of one pair."""
        if arch is None:
            for norm in range(1, len(NORMS) + 1):
                yield from self.children(self._padded((norm,)))
            return
        layers = self._cut(arch)
        for layer in range(1, (self.sizes[len(layers)] if len(layers) < len(self.sizes) else 0) + 1):
            yield self._padded((*layers, layer))

    def tokens(self, arch: Arch) -> tuple[int, ...]:
        """Return the layers in their order: the norms as 1..3, the convolutions as 4..9."""
        return tuple(layer + len(NORMS) * (i % 2) for i, layer in enumerate(self._layers(arch)))

    def describe(self, arch: Arch) -> tuple[str, ...]:
        """Return the names of the layers in their order."""
        return tuple((NORMS, CONVS)[i % 2][layer - 1] for i, layer in enumerate(self._layers(arch)))

    def plan(self, arch: Arch) -> Plan:
        """Return the network whose every dense layer is the cell."""
        names = self.describe(arch)
        blocks = dense_blocks(
            self.input_shape, self.stages, self.stem_stride, lambda c, growth: cell(names, c, growth)
        )
        last = blocks[-1]
        return Plan((*blocks, Block("classifier", last.out_channels, self.classes, last.height, last.width)))

    @property
    def _lengths(self) -> range:
        return range(_SHORTEST, len(self.sizes) + 1)

    def _padded(self, layers: tuple[int, ...]) -> Arch:
        return Arch(self.id, (*layers, *(0,) * (len(self.sizes) - len(layers))))

    def _layers(self, arch: Arch) -> tuple[int, ...]:
        self.check(arch)
        return self._cut(arch)

    def _cut(self, arch: Arch) -> tuple[int, ...]:
        return arch.choices[: arch.choices.index(0)] if 0 in arch.choices else arch.choices


def dense(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    depth: int = 3,
    stages: Sequence[DenseStage] | None = None,
    stem_stride: int | None = None,
) -> DenseSpace:
    """Build the space for images of ``input_shape`` (C, H, W) and ``classes`` labels.

    ``width`` multiplies every growth; ``depth`` is the most pairs of a cell. ``stages`` and ``stem_stride``
    replace the layout that follows the image size: three layers a stage, of growth 8, 16, 32, ..., down to a
    map of 4 to 8 pixels. Three stages of 14 layers are those of CondenseNet on CIFAR. Raises
    :class:`SpaceError` on what cannot be built.
    """
    if min(input_shape) < 1 or min(input_shape[1:]) < 8:
        raise SpaceError(
            f"space 'dense' takes images of (channels, height, width) from 8x8 pixels up; got {input_shape}. "
            "Resize smaller images first"
        )
    if classes < 2:
        raise SpaceError(f"a classifier needs at least 2 classes; got {classes}")
    if not 0 < width <= 8:
        raise SpaceError(f"width is a multiplier above 0 and up to 8; got {width}")
    if not 1 <= depth <= _MOST_DEPTH:
        raise SpaceError(f"the depth of a cell is 1 to {_MOST_DEPTH} pairs of layers; got {depth}")
    if stem_stride not in (None, 1, 2):
        raise SpaceError(f"the stride of the stem is 1 or 2; got {stem_stride}")
    size = min(input_shape[1:])
    stride = stem_stride or (2 if size >= _STEM_HALVES else 1)
    layout = default_stages(size // stride) if stages is None else tuple(stages)
    if not layout or any(s.layers < 1 or s.growth < 1 for s in layout):
        raise SpaceError(f"stages need layers and a growth from 1 up; got {layout}")
    if size // stride < 2 ** (len(layout) - 1):
        raise SpaceError(
            f"images of {size} pixels cannot be halved {len(layout) - 1} times; use fewer stages"
        )
    scaled = tuple(DenseStage(s.layers, round_growth(s.growth * width)) for s in layout)
    return DenseSpace(input_shape, classes, scaled, stride, depth)


def default_stages(size: int) -> tuple[DenseStage, ...]:
    """Return the stages for maps that begin with ``size`` pixels."""
    return tuple(DenseStage(_LAYERS, _GROWTH * 2**i) for i in range(max(2, round(log2(size / 4)))))


def round_growth(channels: float) -> int:
    """Round to a multiple of 4, at least 4, so that the groups divide every number of channels."""
    return max(4, int(channels + 2) // 4 * 4)


def cell(names: Sequence[str], channels: int, growth: int) -> tuple[Layer, ...]:
    """Return the layers of a cell that takes ``channels`` and gives ``growth``.

    The paper leaves open how wide a cell is inside. Here the last convolution gives ``growth`` channels and
    those before it four times as many, as in CondenseNet; a depthwise one keeps what it gets, and where it is
    the last, a 1x1 convolution behind it gives the growth. Groups are the most, up to four, that divide
    what goes in and comes out.
    """
    layers: list[Layer] = []
    last = max(i for i, name in enumerate(names) if name in CONVS)
    for i, name in enumerate(names):
        if name == "none":
            continue
        if name in NORMS:
            layers.append(Layer(name))
            continue
        width = growth if i == last else BOTTLENECK * growth
        if name == "3x3 depthwise":
            layers.append(Layer("conv", 3, channels, channels))
            if i < last or channels == growth:
                continue
            name = "1x1"
        layers.append(_convolution(name, channels, width))
        channels = width
    return tuple(layers)


def _convolution(name: str, channels: int, width: int) -> Layer:
    kernel = int(name[0])
    if "group" not in name:
        return Layer("conv", kernel, width)
    groups = max(g for g in range(1, GROUPS + 1) if channels % g == width % g == 0)
    learned = "learned" in name
    return Layer("conv", kernel, width, groups, _divisor(channels, CONDENSE) if learned else 1)


def _divisor(number: int, most: int) -> int:
    return max(d for d in range(1, most + 1) if number % d == 0)


def dense_blocks(
    input_shape: tuple[int, int, int],
    stages: Sequence[DenseStage],
    stem_stride: int,
    layers: Callable[[int, int], Sequence[Layer]],
) -> list[Block]:
    """Return the network from the stem to the last dense layer.

    ``layers`` gives the cell by the channels that it takes and its growth. The stem gives twice the first
    growth; averages of 2x2 pixels stand between the stages.
    """
    first = 2 * stages[0].growth
    blocks = [Block("stem", input_shape[0], first, *input_shape[1:], kernel=3, stride=stem_stride)]
    for number, stage in enumerate(stages):
        last = blocks[-1]
        if number > 0:
            shape = (last.out_channels, last.out_channels, *last.output_size)
            blocks.append(Block("pool", *shape, kernel=2, stride=2))
        for _ in range(stage.layers):
            last = blocks[-1]
            channels = last.out_channels
            text = ",".join(map(str, layers(channels, stage.growth)))
            shape = (channels, channels + stage.growth, *last.output_size)
            blocks.append(Block("dense", *shape, cell=text))
    return blocks
