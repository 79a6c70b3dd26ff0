"""CondenseNet (Huang et al. 2018): the network that designs of the dense space are measured against."""

from __future__ import annotations

from collections.abc import Sequence

from netsmith.errors import SpaceError
from netsmith.plan import Block, Layer, Plan
from netsmith.spaces.dense import BOTTLENECK, CONDENSE, GROUPS, DenseStage, dense_blocks


def condensenet(
    input_shape: tuple[int, int, int],
    classes: int,
    stages: Sequence[int] = (14, 14, 14),
    growths: Sequence[int] = (8, 16, 32),
    *,
    groups: int = GROUPS,
    condense: int = CONDENSE,
    stem_stride: int = 1,
) -> Plan:
    """Return the plan of a CondenseNet for images of ``input_shape`` (C, H, W).

    As given it is CondenseNet-86 of CIFAR; ``stages`` (4, 6, 8, 10, 8), ``growths`` (8, 16, 32, 64, 128) and
    ``stem_stride`` 2 make CondenseNet-74 of ImageNet. A dense layer is BN-ReLU-L-BN-ReLU-G: L a 1x1 learned
    group convolution to four times the growth, whose groups keep one in ``condense`` inputs, G a 3x3 group
    convolution to the growth. The classifier does with half of its inputs. Raises :class:`SpaceError` where
    stages and growths are not as many, or the groups do not divide them.
    """
    if len(stages) != len(growths) or not stages or min(*stages, *growths) < 1:
        raise SpaceError(f"each stage has a number of layers and a growth; got {stages} and {growths}")
    if any(growth % groups or 2 * growths[0] % condense or growth % condense for growth in growths):
        raise SpaceError(
            f"growths must be multiples of the groups ({groups}) and of the condense factor ({condense}); "
            f"got {growths}"
        )

    def layer(channels: int, growth: int) -> tuple[Layer, ...]:
        learned = Layer("conv", 1, BOTTLENECK * growth, groups, condense)
        return Layer("norm+relu"), learned, Layer("norm+relu"), Layer("conv", 3, growth, groups)

    blocks = dense_blocks(input_shape, list(map(DenseStage, stages, growths)), stem_stride, layer)
    channels, size = blocks[-1].out_channels, blocks[-1].output_size
    return Plan((*blocks, Block("classifier", channels, classes, *size, hidden=channels // 2)))
