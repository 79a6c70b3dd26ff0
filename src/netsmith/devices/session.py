"""What one measurement is: files timed in turn on a device, beside a reference, under one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from netsmith.devices.device import Array, Device, InputType, Run
from netsmith.devices.measure import Latency, measure


@dataclass(frozen=True, slots=True)
class Session:
    """How files are timed; see :func:`netsmith.devices.measure.measure`.

    ``reference_ms`` is what the reference takes on the undisturbed machine: its own low quantile in this
    measurement where it is None.
    """

    batch_size: int = 1
    width: float = 0.01
    least_rounds: int = 20
    most_rounds: int = 1000
    limit_s: float = 20.0
    reference_ms: float | None = None


def time_here(
    device: Device, files: Mapping[str, bytes], reference: bytes | None, session: Session
) -> dict[str, Latency]:
    """Time exported files on a device of this machine, on random pixels."""
    runs = {name: prepare_random(device, model, session.batch_size) for name, model in files.items()}
    return time_runs(device, runs, reference, session)


def time_runs(
    device: Device, runs: Mapping[str, Run], reference: bytes | None, session: Session
) -> dict[str, Latency]:
    """Time what was prepared on a device of this machine, the file ``reference`` beside each sample."""
    return measure(
        runs,
        reference=None if reference is None else prepare_random(device, reference, 1),
        reference_ms=session.reference_ms,
        clock=device.clock,
        width=session.width,
        least_rounds=session.least_rounds,
        most_rounds=session.most_rounds,
        limit_s=session.limit_s,
    )


def prepare_random(device: Device, model: bytes, batch_size: int = 1) -> Run:
    """Load an exported file and return a pass over ``batch_size`` images of random pixels."""
    shape, input_type = device.input_of(model)
    return device.prepare(model, random_input(shape, input_type, batch_size))


def random_input(input_shape: tuple[int, int, int], input_type: InputType, batch_size: int = 1) -> Array:
    """Return the same random pixels at every call, (batch_size, C, H, W): 0..255, or 0..1 for float32."""
    rng = np.random.default_rng(0)
    shape = (batch_size, *input_shape)
    if input_type == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape, dtype=np.float32)
