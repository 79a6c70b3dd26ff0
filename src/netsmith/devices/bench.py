"""A device with its reference network beside it: what everything of one design is timed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from netsmith.devices.device import Array, Device, InputType
from netsmith.devices.measure import Latency
from netsmith.devices.routing import routing
from netsmith.devices.session import Session, prepare_random, time_runs
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan

Subject = tuple[nn.Module, tuple[int, int, int], InputType]
"""A module, its input (C, H, W) and the type of its input."""

_REFERENCE_SHAPE = (3, 32, 32)
_CALIBRATION = Session(width=0.0, least_rounds=1, most_rounds=5000, limit_s=1.0)


class Bench:
    """Times networks on ``device``, all against one reference network.

    ``reference_ms`` is what the reference takes on the undisturbed machine. It is measured where not
    given; given that of an earlier bench (of a latency table, say), the figures of both compare.
    """

    def __init__(self, device: Device, *, reference_ms: float | None = None) -> None:
        self.device = device
        self.reference = device.export(reference_network(), _REFERENCE_SHAPE)
        if reference_ms is None:
            timed = device.time({"reference": self.reference}, None, _CALIBRATION)
            reference_ms = timed["reference"].low_ms
        self.reference_ms = reference_ms

    def fingerprint(self) -> dict[str, str]:
        """What the device's latencies depend on."""
        return self.device.fingerprint()

    def time_files(
        self,
        files: Mapping[str, bytes],
        *,
        batch_size: int = 1,
        width: float = 0.01,
        least_rounds: int = 20,
        limit_s: float = 20.0,
    ) -> dict[str, Latency]:
        """Time exported files in turn, as :func:`netsmith.devices.measure.measure` does."""
        session = Session(batch_size, width, least_rounds, limit_s=limit_s, reference_ms=self.reference_ms)
        return self.device.time(files, self.reference, session)

    def time_images(
        self,
        routed: Mapping[str, tuple[bytes, Sequence[Array]]],
        beside: Mapping[str, bytes] | None = None,
        *,
        limit_s: float = 20.0,
    ) -> tuple[dict[str, list[Latency]], dict[str, Latency]]:
        """Time images in files that route them, and whole files ``beside``, all in turn.

        The images are (1, C, H, W). Returns the latency of each of every file, and of each file beside.
        Raises :class:`netsmith.errors.DeviceError` where the device routes no images.
        """
        device = routing(self.device)
        runs = {
            (name, place): run
            for name, (model, images) in routed.items()
            for place, run in enumerate(device.prepare_each(model, images))
        }
        others = {name: prepare_random(device, model) for name, model in (beside or {}).items()}
        keyed = {f"{name}/{place}": run for (name, place), run in runs.items()} | others
        session = Session(limit_s=limit_s, reference_ms=self.reference_ms)
        timed = time_runs(device, keyed, self.reference, session)
        found = {
            name: [timed[f"{name}/{place}"] for place in range(len(images))]
            for name, (_, images) in routed.items()
        }
        return found, {name: timed[name] for name in others}

    def time(
        self,
        subjects: Mapping[str, Subject],
        *,
        width: float = 0.01,
        least_rounds: int = 20,
        limit_s: float = 20.0,
    ) -> dict[str, Latency]:
        """Export every module and time them all in turn."""
        files = {
            name: self.device.export(module, shape, input_type=input_type)
            for name, (module, shape, input_type) in subjects.items()
        }
        return self.time_files(files, width=width, least_rounds=least_rounds, limit_s=limit_s)


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
