"""Things that run a network and can be timed, and the one way of timing them."""

from netsmith.devices.device import Device, KnownDevice, Run, known_devices, parse

__all__ = ["Device", "KnownDevice", "Run", "known_devices", "parse"]
