"""One task on exported files, in a process of its own: what a file does to its runtime ends with it.

The task comes as JSON on stdin, and its answer goes as JSON to stdout. Files are given by path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from netsmith.devices.device import Device, parse
from netsmith.devices.session import Session
from netsmith.errors import NetsmithError

Task = dict[str, Any]

REFUSED = 3
"""The exit status where the task was at fault, which stderr then says."""


def describe(device: Device, task: Task) -> Task:
    """Return what a latency on this machine depends on."""
    return {"name": device.name, "fingerprint": device.fingerprint()}


def time_files(device: Device, task: Task) -> Task:
    """Time files in turn under the protocol that every latency is taken by."""
    files = {name: Path(path).read_bytes() for name, path in task["files"].items()}
    reference = None if task["reference"] is None else Path(task["reference"]).read_bytes()
    timed = device.time(files, reference, Session(**task["session"]))
    return {name: latency.to_dict() for name, latency in timed.items()}


def input_of(device: Device, task: Task) -> Task:
    """Return the images that a file takes."""
    shape, input_type = device.input_of(Path(task["file"]).read_bytes())
    return {"shape": list(shape), "type": input_type}


def footprint(device: Device, task: Task) -> Task:
    """Return the memory, size and load time of a file."""
    return device.footprint(Path(task["file"]).read_bytes()).to_dict()


def run_file(device: Device, task: Task) -> Task:
    """Run a file on the images of another one, and write the outputs to a third."""
    images = np.frombuffer(Path(task["images"]).read_bytes(), np.dtype(task["type"]))
    outputs = device.prepare(Path(task["file"]).read_bytes(), images.reshape(task["shape"]))()
    Path(task["outputs"]).write_bytes(np.ascontiguousarray(outputs, np.float32).tobytes())
    return {"shape": list(outputs.shape)}


TASKS: dict[str, Callable[[Device, Task], Task]] = {
    "describe": describe,
    "time": time_files,
    "input": input_of,
    "footprint": footprint,
    "run": run_file,
}


def main() -> int:
    """Do the task of stdin."""
    task = json.load(sys.stdin)
    try:
        answer = TASKS[task["kind"]](parse(task["device"]), task)
    except (NetsmithError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return REFUSED
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
