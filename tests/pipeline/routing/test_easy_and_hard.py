"""The known answer through the whole job: easy images take cheaper paths, and whose matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.plan import Block
from netsmith.spaces.routed import RoutedSpace
from netsmith.supernet.policies import archs_of
from netsmith.supernet.routed_network import RoutedNetwork
from tests.supernet.easy_and_hard import CLASSES, DEAR, PIXELS, EasyAndHard, is_hard

IMAGES = 1400


def space() -> RoutedSpace:
    """Edges of an operation that sees neighbours, and of one that sees single pixels and costs a third."""
    shape = (16, 16, PIXELS, PIXELS)
    dear = Block("mbconv", *shape, kernel=3, hidden=96, shortcut=True)
    cheap = Block("mbconv", *shape, kernel=1, hidden=16, shortcut=True)
    stem = Block("conv", 3, 16, PIXELS, PIXELS)
    head = Block("head", 16, CLASSES, PIXELS, PIXELS, hidden=32)
    return RoutedSpace("easy-and-hard", (stem,), ((dear, cheap),) * 3, (head,))


def write(path: Path) -> tuple[Path, torch.Tensor]:
    """Write the images, every second one hard, and return the file with the pixels."""
    x, y = next(EasyAndHard(1, IMAGES, 1).epoch(0))
    pixels = (127 + 55 * x).clamp(0, 255).to(torch.uint8)
    np.savez(path, images=pixels.permute(0, 2, 3, 1).numpy(), labels=y.numpy())
    return path, pixels


def test_easy_images_take_cheap_paths(
    small: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One path that is right for all takes 0.0477 ms: under that, whose path is which must matter.

    REINFORCE ends in other optima now and then: at 0.044 to 0.047 ms and seeds 0 to 2 all of this held in
    seven cases of eleven, and the policy was over the random one by 0.11 and more in ten.
    """
    monkeypatch.setattr(Work, "routed_space", lambda work, width: space())
    data, pixels = write(tmp_path / "images.npz")
    settings = small(
        data=str(data), device="fake:likes=7", strategy="instance", stages=None, latency=0.046,
        augment="none", search_epochs=16, epochs=4, threads=1,
    )  # fmt: skip
    design = run(settings, tmp_path / "design")
    assert design.budget_met
    told, network = design.result["routing"], design.network
    assert isinstance(network, RoutedNetwork)
    with torch.no_grad():
        policies = network.choices(design.module[0](pixels))
    hard = is_hard(IMAGES)
    dear = policies[:, :, DEAR].any(1).float()
    assert dear[hard].mean() > dear[~hard].mean() + 0.15
    latency = {tuple(path["choices"]): path["latency_ms"] for path in told["paths"]}
    taken = torch.tensor([latency.get(arch.choices, np.nan) for arch in archs_of(space(), policies)])
    assert taken[~hard].nanmean() < 0.95 * taken[hard].nanmean()
    assert design.accuracy > 0.95
    assert design.accuracy > told["random"]["accuracy"] + 0.05
