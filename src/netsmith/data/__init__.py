"""Reading image sets, splits, augmentation, batches."""

from netsmith.data.augment import AugmentPolicy, augment
from netsmith.data.images import Images, ImageSet, StreamedImages
from netsmith.data.loader import Loader, batch_generator
from netsmith.data.mixing import cutmix, mix, mixup
from netsmith.data.policy import FlipEvidence, choose_policy, flip_evidence, named_policy
from netsmith.data.reading import ACCEPTED, LoadedSet, load
from netsmith.data.sources.part import Skip
from netsmith.data.splits import Splits, channel_statistics, split

__all__ = [
    "ACCEPTED",
    "AugmentPolicy",
    "FlipEvidence",
    "ImageSet",
    "Images",
    "LoadedSet",
    "Loader",
    "Skip",
    "Splits",
    "StreamedImages",
    "augment",
    "batch_generator",
    "channel_statistics",
    "choose_policy",
    "cutmix",
    "flip_evidence",
    "load",
    "mix",
    "mixup",
    "named_policy",
    "split",
]
