"""Test images of the cheapest and the dearest paths, small, as they stand in ``result.json``."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from netsmith.arch import Arch
from netsmith.devices.device import Array
from netsmith.pipeline.work import Work
from netsmith.supernet.routed_network import RoutedNetwork

SHOWN, PIXELS = 8, 64


@torch.no_grad()
def examples(
    work: Work, network: RoutedNetwork, archs: Sequence[Arch], latency_ms: Mapping[Arch, float]
) -> dict[str, list[dict[str, Any]]]:
    """Return some test images of the cheapest and of the dearest paths, with their labels.

    ``archs`` are the paths of the test part. Of images that take equally long the first are shown.
    """
    order = sorted(range(len(archs)), key=lambda i: (latency_ms[archs[i]], i))
    dearest = sorted(range(len(archs)), key=lambda i: (-latency_ms[archs[i]], i))
    return {
        "cheapest": _shown(work, network, order[:SHOWN], archs, latency_ms),
        "dearest": _shown(work, network, dearest[:SHOWN], archs, latency_ms),
    }


def _shown(
    work: Work,
    network: RoutedNetwork,
    places: Sequence[int],
    archs: Sequence[Arch],
    latency_ms: Mapping[Arch, float],
) -> list[dict[str, Any]]:
    test, names = work.splits.test, work.splits.label_names
    chosen = test.subset(torch.tensor(places))
    (x, y), *_ = work.loader(chosen, len(places), shuffle=False).epoch(0)
    given = network(x.cpu()).argmax(1).tolist()
    pixels = chosen.fetch(torch.arange(len(places))).cpu().numpy()
    return [
        {
            "label": names[label],
            "predicted": names[guess],
            "latency_ms": latency_ms[archs[place]],
            "png": png(image),
        }
        for place, label, guess, image in zip(places, y.tolist(), given, pixels, strict=True)
    ]


def png(pixels: Array) -> str:
    """Return an image (C, H, W) of 0..255, made no larger than ``PIXELS``, as a PNG in base64."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0).squeeze()))
    image.thumbnail((PIXELS, PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
