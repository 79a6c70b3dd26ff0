"""Pixels and what networks learn from are each other's inverse."""

from __future__ import annotations

import torch

from netsmith.nn.preprocess import Normalize, Pixels


def test_every_pixel_comes_back_and_what_is_between_is_rounded() -> None:
    mean, std = (0.4914, 0.2, 0.0), (0.2470, 0.25, 1.0)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    normalised = Normalize(mean, std)(pixels)
    assert torch.equal(Pixels(mean, std)(normalised), pixels.float())
    assert torch.equal(Pixels(mean, std)(normalised + 0.001), pixels.float())
    assert Pixels((0.0,), (1.0,))(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[[[0.0, 255.0]]]]
