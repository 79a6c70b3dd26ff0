"""The limits that a design is asked to keep: by the names of their options, in units or as shares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from netsmith.budget import Budget, read_quantity
from netsmith.errors import SettingsError

# The limits by the names of their options, and the figure of a network that each bounds.
LIMITS = {
    "latency": "latency_ms",
    "memory": "peak_bytes",
    "activations": "activation_bytes",
    "size": "size_bytes",
    "macs": "macs",
    "params": "params",
}

# Those that channels are chosen by; whether the others are kept is found when a network is measured.
BOUNDING = frozenset({"latency_ms", "macs", "params", "size_bytes"})


def read_limits(asked: Mapping[str, str | float | None]) -> Budget:
    """Return the budget of limits by the names of their options, as numbers or text with a unit."""
    return Budget(**{LIMITS[k]: read_quantity(v, LIMITS[k]) for k, v in asked.items() if v is not None})


def is_share(value: object) -> bool:
    """Whether a limit is a share of what a base takes, such as ``"50%"``."""
    return isinstance(value, str) and value.strip().endswith("%")


def share_of(text: str, name: str, most: float = 1.0) -> float:
    """Read ``"50%"`` as 0.5. Raises :class:`SettingsError` on what is not over 0 and up to ``most``."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= most:
        raise SettingsError(
            f"{name} in percent is over 0% and up to {100 * most:g}% of the base's; got {text!r:.100}"
        )
    return share


def limits_of(device: str, devices: Sequence[str], values: Mapping[str, Any]) -> dict[str, str]:
    """The limits in ``values`` that say something for each of ``devices``, as those of one."""
    names = "|".join(re.escape(name) for name in sorted(devices, key=len, reverse=True))
    found = {}
    for limit in LIMITS:
        text = values.get(limit)
        if not isinstance(text, str) or "=" not in text:
            continue
        if not re.fullmatch(rf"(?:(?:{names})=[^,=]+(?:,(?!$)|$))+", text):
            raise SettingsError(
                f"{limit} of several devices is one limit for all, or one for each such as "
                f"'{','.join(f'{name}=...' for name in devices)}'; got {text!r:.200}"
            )
        given = re.findall(rf"({names})=([^,=]+)(?:,|$)", text)
        if sorted(name for name, _ in given) != sorted(devices):
            raise SettingsError(
                f"{limit} says something of {', '.join(name for name, _ in given)}; say it once of each of "
                f"{', '.join(devices)}"
            )
        found[limit] = dict(given)[device]
    return found
