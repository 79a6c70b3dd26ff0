"""From a trained module to proof: export, parity, figures in the device's own runtime."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from netsmith.data import Images
from netsmith.devices.device import Array, Device
from netsmith.devices.measure import Latency
from netsmith.export.parity import TOLERANCE, check_parity
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Plan

TEST_BATCH = 500


def deployed(plan: Plan, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Sequential:
    """Return what is exported: pixels 0..255 (N, C, H, W) to logits (N, classes), weights untrained."""
    return nn.Sequential(Normalize(mean, std), Network(plan)).eval()


@dataclass(frozen=True)
class Tested:
    """What an exported file scored: accuracy 0..1 and, row by true label, how often each label came."""

    accuracy: float
    confusion: list[list[int]]


def test_exported(device: Device, model: bytes, images: Images) -> Tested:
    """Run the exported file over ``images`` in the device's runtime."""
    classes = len(images.label_names)
    confusion = np.zeros((classes, classes), np.int64)
    for labels, logits in run_over(device, model, images):
        np.add.at(confusion, (labels.numpy(), logits.argmax(1)), 1)
    return Tested(float(np.trace(confusion) / confusion.sum()), confusion.tolist())


def run_over(device: Device, model: bytes, images: Images) -> Iterator[tuple[torch.Tensor, Array]]:
    """Yield labels (N,) and the exported file's logits (N, classes), batch by batch."""
    places = torch.split(torch.arange(len(images)), TEST_BATCH)
    for place, pixels in zip(places, images.stream(places), strict=True):
        yield images.labels[place], device.prepare(model, pixels.numpy())()


def worst_difference(
    device: Device, module: nn.Module, model: bytes, images: Images, most: int = 256
) -> float:
    """Return the largest difference of the exported file's outputs from the module's on real images.

    Raises :class:`netsmith.errors.ExportError` beyond the tolerance, which an int8 file has none of: what its
    rounding costs is seen in its accuracy.
    """
    pixels = images.fetch(torch.arange(min(most, len(images)))).numpy()
    tolerance = TOLERANCE if device.precision == "float32" else math.inf
    return check_parity(module, lambda batch: device.prepare(model, batch)(), pixels, tolerance=tolerance)


def spread(latency: Latency) -> dict[str, Any]:
    """Return a latency's spread as it stands in ``result.json``."""
    return {
        "low": latency.low_ms,
        "high": latency.quantile_ms(0.9),
        "interval": list(latency.interval_ms),
        "rounds": latency.rounds,
        "wide": latency.wide,
    }
