"""The proof of an export finds what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.errors import ExportError
from netsmith.export.parity import check_parity


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32)


def _run(module: nn.Module, offset: float = 0.0):
    def run(batch: np.ndarray) -> np.ndarray:
        module.eval()
        with torch.no_grad():
            return module(torch.from_numpy(batch)).numpy() + np.float32(offset)

    return run


def test_the_worst_difference_over_all_batches_is_returned(module: nn.Module, images: np.ndarray) -> None:
    module.train()
    assert check_parity(module, _run(module, 5e-5), images, batch_size=4) == pytest.approx(5e-5, rel=0.05)
    assert module.training


def test_the_tolerance_grows_with_large_outputs_alone(module: nn.Module, images: np.ndarray) -> None:
    with pytest.raises(ExportError, match="differs from the module by"):
        check_parity(module, _run(module, 1e-2), images)
    nn.init.constant_(module[0].bias, 0)
    module[1].weight.data.mul_(1000)
    assert check_parity(module, _run(module, 1e-2), images) == pytest.approx(1e-2, rel=0.05)


def test_wrong_shapes_and_numbers_are_errors(module: nn.Module, images: np.ndarray) -> None:
    with pytest.raises(ExportError, match="outputs of"):
        check_parity(module, lambda batch: np.zeros((len(batch), 2), np.float32), images)
    with pytest.raises(ExportError, match="finite"):
        check_parity(module, _run(module, float("nan")), images)
