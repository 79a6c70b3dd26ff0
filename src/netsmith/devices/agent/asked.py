"""What a client of the agent asked for, read strictly: hostile until it is proved to be in bounds."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from netsmith.devices.session import Session


class AskError(Exception):
    """A request that is answered with an error, and ``status``."""

    def __init__(self, status: int, text: str, **more: Any) -> None:
        super().__init__(text)
        self.status, self.more = status, more


def read_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request's body."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise AskError(400, "the body is not JSON") from None
    if not isinstance(asked, dict):
        raise AskError(400, "the body is not a JSON object")
    return asked


def device_of(name: Any) -> str:
    """Return the name of a device of this machine."""
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise AskError(400, "device names a runtime of this machine, such as onnxruntime:threads=1")
    if "://" in name or name.partition(":")[0].strip() == "table":  # that reads the file named
        raise AskError(400, "an agent measures on devices of its own machine")
    return name


def session_of(asked: Any, most_s: float) -> Session:
    """Read how files are timed, within what an agent gives."""
    names = {field.name for field in fields(Session)}
    if not isinstance(asked, dict) or set(asked) != names:
        raise AskError(400, f"session holds {', '.join(sorted(names))}")
    numbers = [value for name, value in asked.items() if name != "reference_ms" or value is not None]
    if not all(type(value) in (int, float) and 0 <= value < 1e9 for value in numbers):
        raise AskError(400, "a session's values are numbers from 0 up")
    if not 1 <= asked["batch_size"] <= 4096 or not 0 < asked["limit_s"] <= most_s:
        raise AskError(400, f"a session has batches of 1 to 4096 images and at most {most_s:.0f} s")
    if any(type(asked[name]) is not int for name in ("batch_size", "least_rounds", "most_rounds")):
        raise AskError(400, "batch_size, least_rounds and most_rounds are whole numbers")
    if asked["reference_ms"] == 0 or asked["most_rounds"] > 100_000:
        raise AskError(400, "reference_ms is above 0, and most_rounds at most 100000")
    return Session(**asked)
