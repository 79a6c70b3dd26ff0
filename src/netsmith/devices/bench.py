"""A device with its reference network beside it: what everything of one design is timed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import nn

from netsmith.devices.device import Array, Device, Run
from netsmith.devices.measure import Latency, measure
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan

InputType = Literal["float32", "uint8"]
Subject = tuple[nn.Module, tuple[int, int, int], InputType]
"""A module, its input (C, H, W) and the type of its input."""

_REFERENCE_SHAPE = (3, 32, 32)
_CALIBRATION_S = 1.0


class Bench:
    """Times networks on ``device``, all against one reference network.

    ``reference_ms`` is what the reference takes on the undisturbed machine. It is measured where not
    given; given that of an earlier bench (of a latency table, say), the figures of both compare.
    """

    def __init__(self, device: Device, *, reference_ms: float | None = None) -> None:
        self.device = device
        self._reference = self.prepare(device.export(reference_network(), _REFERENCE_SHAPE), _REFERENCE_SHAPE)
        if reference_ms is None:
            runs = {"reference": self._reference}
            timed = measure(
                runs, clock=device.clock, width=0.0, least_rounds=1, limit_s=_CALIBRATION_S, most_rounds=5000
            )
            reference_ms = timed["reference"].low_ms
        self.reference_ms = reference_ms

    def fingerprint(self) -> dict[str, str]:
        """What the device's latencies depend on."""
        return self.device.fingerprint()

    def prepare(
        self,
        model: bytes,
        input_shape: tuple[int, int, int],
        *,
        input_type: InputType = "float32",
        batch_size: int = 1,
    ) -> Run:
        """Load an exported file and return a pass over random input of (batch_size, C, H, W)."""
        return self.device.prepare(model, random_input(input_shape, input_type, batch_size))

    def measure(
        self,
        runs: Mapping[str, Run],
        *,
        width: float = 0.01,
        least_rounds: int = 20,
        limit_s: float = 20.0,
    ) -> dict[str, Latency]:
        """Time every run in turn, as :func:`netsmith.devices.measure.measure` does."""
        return measure(
            runs,
            reference=self._reference,
            reference_ms=self.reference_ms,
            clock=self.device.clock,
            width=width,
            least_rounds=least_rounds,
            limit_s=limit_s,
        )

    def time(
        self,
        subjects: Mapping[str, Subject],
        *,
        width: float = 0.01,
        least_rounds: int = 20,
        limit_s: float = 20.0,
    ) -> dict[str, Latency]:
        """Export every module, load it and time them all in turn."""
        runs = {
            name: self.prepare(
                self.device.export(module, shape, input_type=input_type), shape, input_type=input_type
            )
            for name, (module, shape, input_type) in subjects.items()
        }
        return self.measure(runs, width=width, least_rounds=least_rounds, limit_s=limit_s)


def reference_network() -> nn.Module:
    """Return a fixed network of 0.3 M MACs for (N, 3, 32, 32): standard, depthwise and 1x1 convolutions."""
    blocks = (
        Block("conv", 3, 16, 32, 32, kernel=3, stride=2),
        Block("mbconv", 16, 24, 16, 16, kernel=3, stride=2, hidden=96),
        Block("mbconv", 24, 24, 8, 8, kernel=5, hidden=144, shortcut=True),
        Block("head", 24, 10, 8, 8, hidden=128),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(Plan(blocks)).eval()


def random_input(input_shape: tuple[int, int, int], input_type: InputType, batch_size: int = 1) -> Array:
    """Return the same random pixels at every call, (batch_size, C, H, W): 0..255, or 0..1 for float32."""
    rng = np.random.default_rng(0)
    shape = (batch_size, *input_shape)
    if input_type == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape, dtype=np.float32)
