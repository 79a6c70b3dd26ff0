"""Choosing an augmentation policy: its strength by how often images are seen, mirroring by evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F

from netsmith.data.augment import AugmentPolicy
from netsmith.data.images import Images
from netsmith.data.sources.part import Shape
from netsmith.errors import SettingsError, nearest

#: Policies by name, for small images; :func:`named_policy` fits them to a shape.
STRENGTHS = {
    "none": AugmentPolicy(),
    "light": AugmentPolicy(shift=0.1, brightness=0.1, contrast=0.1),
    "standard": AugmentPolicy(shift=0.125, erase=0.25, brightness=0.2, contrast=0.2),
    "strong": AugmentPolicy(shift=0.125, erase=0.5, brightness=0.4, contrast=0.4, mixup=0.2, cutmix=1.0),
}

#: From how many passes over the images on each strength pays, and mirroring with it (docs/results.md).
_FROM_PASSES = ((50.0, "standard"), (20.0, "light"), (0.0, "none"))
#: Below this side, in pixels, brightness and contrast are left alone.
_LEAST_JITTER_SIDE = 48
#: Neighbours are looked for among so many images, shrunk to at most so many pixels a side.
_PROBE_IMAGES, _PROBE_SIDE = 2000, 16
#: Mirrored images must keep this share of the accuracy that upright ones have. Of scikit-learn's digits 0.35
#: is kept, of Fashion-MNIST 0.7, of CIFAR-10 all.
_LEAST_KEPT = 0.5
#: From this share on mirrored images count as recognised as well as upright ones.
_ALIKE = 0.95


class FlipEvidence(NamedTuple):
    """What nearest neighbours say of mirroring, as counts of ``images`` of validation.

    ``right``: recognised from plain train images; ``mirrored_right``: recognised when mirrored, from the
    same. ``gained`` and ``lost``: recognised only with, and only without, mirrored copies in train.
    """

    images: int
    right: int
    mirrored_right: int
    gained: int
    lost: int

    @property
    def flip(self) -> bool:
        """Whether mirroring keeps labels, and mirrored copies help more images than they hurt.

        Where they help as many as they hurt, mirrored images must be recognised as well as upright ones.
        """
        kept = _LEAST_KEPT if self.gained > self.lost else _ALIKE
        return self.gained >= self.lost and self.mirrored_right >= kept * self.right


def named_policy(strength: str, input_shape: Shape) -> AugmentPolicy:
    """Return the policy ``none``, ``light``, ``standard`` or ``strong`` for images (C, H, W), without flips.

    Raises :class:`SettingsError` for another name.
    """
    if strength not in STRENGTHS:
        raise SettingsError(
            f"unknown augmentation strength '{strength}'; known: {', '.join(STRENGTHS)}"
            f"{nearest(strength, STRENGTHS)}"
        )
    policy = STRENGTHS[strength]
    if min(input_shape[1:]) < _LEAST_JITTER_SIDE:
        policy = replace(policy, brightness=0.0, contrast=0.0)
    return policy


def choose_policy(input_shape: Shape, passes: float, flip: bool) -> AugmentPolicy:
    """Return the policy for images (C, H, W) that a training sees ``passes`` times.

    Changed images are harder to learn from; they pay once a network begins to know the plain ones by heart.
    ``flip``, whether images may be mirrored, is for :func:`flip_evidence` to say: mirroring changes the
    label of a digit and helps nearly everything else.
    """
    strength = next(name for least, name in _FROM_PASSES if passes >= least)
    return replace(named_policy(strength, input_shape), flip=flip and strength != "none")


def flip_evidence(train: Images, validation: Images) -> FlipEvidence:
    """Probe mirroring with the nearest neighbour by pixels, on at most 2,000 images of each part.

    A copy cannot crowd others out of a nearest-neighbour rule as it does out of a linear one, so what it
    loses comes from mirrored images that look like another class.
    """
    examples, labels = _sample(train)
    images, truth = _sample(validation)
    own, other = torch.cdist(images.flatten(1), examples.flatten(1)).min(1)
    mirrored, mirrored_other = torch.cdist(images.flatten(1), examples.flip(-1).flatten(1)).min(1)
    plain = labels[other] == truth
    with_copies = torch.where(mirrored < own, labels[mirrored_other], labels[other]) == truth
    # Comparing an image with mirrored examples is comparing the mirrored image with the examples.
    return FlipEvidence(
        images=len(truth),
        right=int(plain.sum()),
        mirrored_right=int((labels[mirrored_other] == truth).sum()),
        gained=int((with_copies & ~plain).sum()),
        lost=int((plain & ~with_copies).sum()),
    )


def _sample(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return evenly many images of each class, shrunk (n, C, h, w), and their labels (n,)."""
    labels = images.labels
    order = torch.argsort(labels, stable=True)
    keep = order[torch.linspace(0, len(order) - 1, min(len(order), _PROBE_IMAGES)).round().long()]
    pixels = images.fetch(keep).cpu().float()
    side = min(_PROBE_SIDE, *pixels.shape[2:])
    return F.interpolate(pixels, size=(side, side), mode="area"), labels[keep]
