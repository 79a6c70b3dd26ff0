"""Mixup and cutmix: labels are shared exactly as the pixels are."""

from __future__ import annotations

import pytest
import torch

from netsmith.data.augment import AugmentPolicy
from netsmith.data.mixing import cutmix, mix, mixup


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mixup_blends_images_and_labels_alike() -> None:
    labels = torch.arange(6)
    x = torch.nn.functional.one_hot(labels, 6).float().view(6, 6, 1, 1).expand(6, 6, 4, 4)
    found, soft = mixup(x, labels, 6, 1.0, rng(2))
    assert torch.allclose(found[:, :, 0, 0], soft)
    assert torch.allclose(soft.sum(1), torch.ones(6))
    assert (soft.argmax(1) != -1).all()
    assert 0 < float(soft[0].max()) < 1


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_labels_are_the_areas(seed: int) -> None:
    labels = torch.arange(5)
    x = labels.float().view(5, 1, 1, 1).expand(5, 1, 12, 10).clone()
    found, soft = cutmix(x, labels, 5, 1.0, rng(seed))
    for i in range(5):
        areas = torch.bincount(found[i].flatten().long(), minlength=5) / 120
        assert torch.allclose(areas, soft[i], atol=1e-6)
    assert torch.equal(x[:, 0, 0, 0], labels.float())


def test_mix_follows_the_policy() -> None:
    x, labels = torch.rand(40, 3, 12, 9, generator=rng(1)), torch.arange(40) % 4
    found, soft = mix(x, labels, 4, AugmentPolicy(), rng())
    assert torch.equal(found, x)
    assert torch.equal(soft.argmax(1), labels)
    assert soft.max() == 1
    for policy in (AugmentPolicy(mixup=0.4), AugmentPolicy(cutmix=1.0), AugmentPolicy(mixup=0.4, cutmix=1.0)):
        first, second = (mix(x, labels, 4, policy, rng(5)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert not torch.equal(first[0], x)
        assert torch.allclose(first[1].sum(1), torch.ones(40))
