"""Small designs on the fake device: seconds each, and the same figures at every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings

SMALL: dict[str, Any] = {
    "device": "fake",
    "latency": 0.06,
    "budget": "quick",
    "stages": ((16, 2, 1), (24, 2, 2)),
    "width": 0.5,
    "search_epochs": 2,
    "epochs": 2,
    "baselines": "none",
}


def write_images(path: Path, *, seed: int = 0, count: int = 160) -> Path:
    """Write 8x8 images of four classes, told apart by the quarter that is bright."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 80, (count, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 150
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "quarters.npz")


Make = Callable[..., Settings]


@pytest.fixture(scope="session")
def small(images: Path) -> Make:
    """Make the settings of a small design, changed as asked."""

    def make(**changes: Any) -> Settings:
        asked = {"data": str(images), **SMALL, **changes}
        return Settings.from_mapping({name: value for name, value in asked.items() if value is not None})

    return make


@pytest.fixture(scope="session")
def finished(small: Make, tmp_path_factory: pytest.TempPathFactory) -> Design:
    """A design that ran from its beginning to its end; tests only read it."""
    return run(small(), tmp_path_factory.mktemp("designs") / "finished")
