"""Timing one network on one or several devices, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netsmith.devices.bench import Bench
from netsmith.devices.device import Device, parse, reader_of
from netsmith.devices.local import LocalRuntime
from netsmith.devices.measure import Latency, measure
from netsmith.devices.memory import Footprint
from netsmith.devices.session import prepare_random
from netsmith.errors import DeviceError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.calibration import calibrated


@dataclass(frozen=True)
class Timed:
    """What a network took on a device, ``batch`` images a pass."""

    device: Device
    latency: Latency
    footprint: Footprint
    batch: int
    warning: str

    @property
    def images_per_s(self) -> float:
        """Images a second, one pass after the other."""
        return 1000 * self.batch / self.latency.median_ms

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the raw samples as JSON-ready values."""
        return {
            "device": self.device.name,
            "device_fingerprint": self.device.fingerprint(),
            "batch": self.batch,
            "images_per_s": self.images_per_s,
            "warnings": [self.warning] if self.warning else [],
            "latency": self.latency.to_dict(),
            **self.footprint.to_dict(),
        }


def time_on(path: Path, names: Sequence[str], *, batch: int = 1, limit_s: float = 20.0) -> list[Timed]:
    """Time an exported file, or the network of a design's folder, on devices of this processor in turn.

    Without names it is the design's device, or the one that reads such files. A design is written anew for
    a device that is not its own; for an int8 one with ranges from random pixels, which cost accuracy and no
    time. Raises :class:`DeviceError` where a device cannot take the file.
    """
    given = _files_of_design(path, names) if path.is_dir() else _file_itself(path, names)
    benches = {name: calibrated(device) for name, (device, _) in given.items()}
    latencies = time_in_turn(given, lambda device: benches[device.name][0], batch=batch, limit_s=limit_s)
    return [
        Timed(device, latencies[name], device.footprint(model), batch, benches[name][1])
        for name, (device, model) in given.items()
    ]


def time_in_turn(
    given: Mapping[str, tuple[Device, bytes]],
    bench_of: Callable[[Device], Bench],
    *,
    batch: int = 1,
    limit_s: float = 20.0,
) -> dict[str, Latency]:
    """Time files, each on its device, for at most ``limit_s`` each.

    What runs on this processor is timed interleaved and against one reference, that of the first; the files
    of any other device among themselves. ``bench_of`` gives the bench of a device that needs one.
    """
    here = [name for name, (device, _) in given.items() if isinstance(device, LocalRuntime)]
    latencies: dict[str, Latency] = {}
    if here:
        first = bench_of(given[here[0]][0])
        latencies = measure(
            {name: prepare_random(*given[name], batch) for name in here},
            reference=prepare_random(first.device, first.reference, 1),
            reference_ms=first.reference_ms,
            limit_s=limit_s * len(here),
        )
    elsewhere = {name: device for name, (device, _) in given.items() if name not in latencies}
    for device in {device.name: device for device in elsewhere.values()}.values():
        files = {name: given[name][1] for name, own in elsewhere.items() if own.name == device.name}
        timed = bench_of(device).time_files(files, batch_size=batch, limit_s=limit_s * len(files))
        latencies |= timed
    return latencies


def _files_of_design(path: Path, names: Sequence[str]) -> dict[str, tuple[Device, bytes]]:
    design = Design.load(path)
    own = parse(str(design.result["device"]))
    files = {}
    for device in [parse(name) for name in names] or [own]:
        if device.name == own.name:
            files[device.name] = device, design.exported.read_bytes()
        else:
            shape, input_type = own.input_of(design.exported.read_bytes())
            _ = design.static_network  # one that routes images is written for its own device alone
            files[device.name] = device, device.export(design.module, shape, input_type=input_type)
    return files


def _file_itself(path: Path, names: Sequence[str]) -> dict[str, tuple[Device, bytes]]:
    if not path.is_file():
        raise DeviceError(f"there is no file or folder {path} to measure")
    devices = [parse(name) for name in names or [reader_of(path.suffix)]]
    for device in devices:
        if device.precision != "float32":
            raise DeviceError(
                f"a file is measured as it is, so '{device.name}' cannot say its precision; leave it out, or "
                "give the folder of a design"
            )
        if device.suffix != path.suffix:
            raise DeviceError(
                f"'{device.name}' runs files that end in '{device.suffix}', which {path} does not. Give the "
                "folder of a design: it is written for each device"
            )
    return {device.name: (device, path.read_bytes()) for device in devices}
