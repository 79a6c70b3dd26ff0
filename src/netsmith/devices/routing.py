"""Devices that run files in which every image takes a path of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from netsmith.devices.device import Array, Device, Run
from netsmith.errors import DeviceError


class RoutingDevice(Device, Protocol):
    """A device of this machine that runs files in which every image takes a path of its own."""

    @property
    def routes(self) -> bool:
        """Whether it does so in its precision."""

    def prepare_each(self, model: bytes, images: Sequence[Array], output: str | None = None) -> list[Run]:
        """Load a file once, and return a pass over each of ``images``, (N, C, H, W).

        A pass gives ``output``, or the file's first where that is None.
        """


def routing(device: Device) -> RoutingDevice:
    """Return ``device`` as one that routes images. Raises :class:`DeviceError` where it cannot."""
    if not getattr(device, "routes", False):
        raise DeviceError(
            f"'{device.name}' runs no networks in which every image takes a path of its own; "
            "onnxruntime in float32, on this machine, does, such as onnxruntime:threads=1"
        )
    return cast(RoutingDevice, device)
