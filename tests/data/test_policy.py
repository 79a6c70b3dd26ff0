"""Mirroring is chosen by evidence: not for digits, yes where labels survive it and it helps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from netsmith.data import (
    AugmentPolicy,
    FlipEvidence,
    ImageSet,
    LoadedSet,
    choose_policy,
    flip_evidence,
    load,
    named_policy,
    split,
)
from netsmith.errors import SettingsError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "fashion_mnist"


@pytest.mark.parametrize("seed", range(4))
def test_digits_are_not_mirrored(seed: int) -> None:
    parts = split(load("digits"), seed)
    evidence = flip_evidence(parts.train, parts.validation)
    assert not evidence.flip
    assert evidence.mirrored_right < 0.5 * evidence.right


def shapes(oriented: bool) -> LoadedSet:
    """Two classes. Oriented: a bar on the left or the right. Else: high or low, on either side."""
    generator = torch.Generator().manual_seed(0)
    count = 400
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 12, 12), dtype=torch.uint8, generator=generator)
    for i in range(count):
        far = int(torch.randint(0, 5, (), generator=generator))
        side = int(labels[i]) if oriented else int(torch.randint(0, 2, (), generator=generator))
        row = 3 if oriented else 2 + 6 * int(labels[i])
        column = far if side == 0 else 11 - far
        images[i, 0, row : row + 2, column] = 255
    return LoadedSet(ImageSet(images, labels, ("a", "b")), None, ())


def test_mirrors_where_sides_mean_nothing() -> None:
    for oriented in (False, True):
        parts = split(shapes(oriented), 0)
        evidence = flip_evidence(parts.train, parts.validation)
        assert evidence.flip is not oriented
        assert evidence == flip_evidence(parts.train, parts.validation)


def test_what_is_seen_more_often_is_changed_more() -> None:
    strengths = [choose_policy((1, 28, 28), passes, flip=True) for passes in (2, 8, 30, 60)]
    assert strengths[0] == strengths[1] == AugmentPolicy()
    assert [policy.flip for policy in strengths] == [False, False, True, True]
    assert [policy.shift for policy in strengths] == sorted(policy.shift for policy in strengths)
    assert strengths[3].erase > strengths[2].erase == 0
    assert strengths[3] == choose_policy((1, 28, 28), 1e6, flip=True)
    assert not choose_policy((1, 28, 28), 60, flip=False).flip


def test_evidence_against_a_plain_count() -> None:
    parts = split(shapes(oriented=False), 1)
    assert isinstance(parts.train, ImageSet)
    assert isinstance(parts.validation, ImageSet)
    train, labels = parts.train.images.float(), parts.train.labels
    both, twice = torch.cat([train, train.flip(-1)]), torch.cat([labels, labels])
    gained = lost = right = 0
    for image, label in zip(parts.validation.images.float(), parts.validation.labels, strict=True):
        plain = labels[(train - image).pow(2).sum((1, 2, 3)).argmin()] == label
        copies = twice[(both - image).pow(2).sum((1, 2, 3)).argmin()] == label
        right += int(plain)
        gained += int(copies and not plain)
        lost += int(plain and not copies)
    evidence = flip_evidence(parts.train, parts.validation)
    assert (evidence.right, evidence.gained, evidence.lost) == (right, gained, lost)


@pytest.mark.skipif(not SHARED.is_dir(), reason="Fashion-MNIST is not beside the project")
def test_clothes_may_be_mirrored() -> None:
    parts = split(load(SHARED), 0)
    assert flip_evidence(parts.train, parts.validation).flip


@pytest.mark.parametrize(
    ("right", "mirrored", "gained", "lost", "flip"),
    [
        (90, 80, 5, 3, True),
        (90, 40, 5, 3, False),
        (90, 90, 0, 0, True),
        (90, 80, 0, 0, False),
        (90, 90, 3, 5, False),
    ],
)
def test_the_rule(right: int, mirrored: int, gained: int, lost: int, flip: bool) -> None:
    assert FlipEvidence(100, right, mirrored, gained, lost).flip is flip


def test_strengths_by_name() -> None:
    assert named_policy("standard", (1, 28, 28)).brightness == 0
    assert named_policy("standard", (3, 64, 64)).brightness > 0
    with pytest.raises(SettingsError, match="did you mean 'strong'"):
        named_policy("stron", (1, 28, 28))
