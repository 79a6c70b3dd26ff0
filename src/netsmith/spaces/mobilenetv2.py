"""MobileNetV2 (Sandler et al. 2018, table 2) at any width: the network that designs must beat."""

from __future__ import annotations

from netsmith.plan import Block, Plan
from netsmith.spaces.mbconv import halve_less, round_width

# (expansion, channels, blocks) of each stage; the strides of the stem and of the stages.
_STAGES = (
    (1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1),
)  # fmt: skip
_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)


def mobilenetv2(input_shape: tuple[int, int, int], classes: int, width: float = 1.0) -> Plan:
    """Return the plan of MobileNetV2 for images of ``input_shape`` (C, H, W).

    Small images are halved less often, by the rule of :func:`netsmith.spaces.mbconv.halve_less`; at
    32x32 this is the customary CIFAR adaptation. The last features stay 1280 below width 1,
    as published.
    """
    channels, height, image_width = input_shape
    strides = halve_less(_STRIDES, min(height, image_width))
    stem = round_width(32 * width)
    blocks = [Block("conv", channels, stem, height, image_width, kernel=3, stride=strides[0])]
    for (expansion, out, repeats), stride in zip(_STAGES, strides[1:], strict=True):
        for i in range(repeats):
            last, step, out_width = blocks[-1], stride if i == 0 else 1, round_width(out * width)
            blocks.append(
                Block(
                    "mbconv",
                    last.out_channels,
                    out_width,
                    *last.output_size,
                    kernel=3,
                    stride=step,
                    hidden=last.out_channels * expansion,
                    shortcut=step == 1 and last.out_channels == out_width,
                )
            )
    last = blocks[-1]
    features = round_width(1280 * max(1.0, width))
    return Plan((*blocks, Block("head", last.out_channels, classes, *last.output_size, hidden=features)))
