"""The values of settings that are more than one number or word."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from netsmith.devices.device import Precision
from netsmith.errors import SettingsError


def read_numbers(value: Any, name: str) -> tuple[float, ...]:
    """Read a number, several in a list, or text such as ``"0.5,0.4,0.3"``. Raises :class:`SettingsError`."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(map(float, parts if isinstance(parts, list | tuple) else [parts]))
    except (TypeError, ValueError):
        raise SettingsError(
            f"{name} is a number, or one for each channel such as 0.5,0.4,0.3; got {value!r:.100}"
        ) from None


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, float) and math.isfinite(value)


def check_drop(drop: object, *, alone: bool) -> None:
    """Check what an int8 file may lose, ``alone`` where nothing else is limited. Raises SettingsError."""
    if not isinstance(drop, int | float) or isinstance(drop, bool) or not 0 <= drop < 1:
        raise SettingsError(f"max_drop is a share of the images, 0 or more and below 1; got {drop!r:.100}")
    if not alone:
        raise SettingsError(
            "max_drop is what an int8 file may lose where nothing else is limited: --precision mixed without "
            "limits"
        )


def read_stages(rows: Any) -> tuple[tuple[int, int, int], ...]:
    """Read rows of width, blocks and stride, in order or by name. Raises :class:`SettingsError`."""
    if not isinstance(rows, list | tuple) or not rows:
        raise SettingsError(f"stages is a list of at least one stage; got {rows!r:.100}")
    return tuple(_read_stage(row) for row in rows)


def _read_stage(row: Any) -> tuple[int, int, int]:
    names = ("width", "blocks", "stride")
    values = row
    if isinstance(row, Mapping) and set(row) == set(names):
        values = [row[name] for name in names]
    if not isinstance(values, list | tuple) or [type(value) for value in values] != [int, int, int]:
        raise SettingsError(
            f"a stage is {{width = 24, blocks = 4, stride = 2}} in whole numbers; got {row!r:.100}"
        )
    width, blocks, stride = values
    return width, blocks, stride


def device_text(runtime: str, threads: int, precision: Precision) -> str:
    """Return the text of the device that a runtime is with so many threads, in this precision.

    What a runtime is by itself, one thread and float32, is left out: not every runtime has the options.
    """
    options = [f"threads={threads}"] if threads > 1 else []
    options += [f"precision={precision}"] if precision != "float32" else []
    joined = "," if ":" in runtime.split("runtime=")[-1] else ":"
    return runtime + (joined + ",".join(options) if options else "")


def floating_text(device: str) -> str:
    """Return the text of an int8 device in float32."""
    return re.sub(r"(:)precision=int8,?|,precision=int8", r"\1", device).removesuffix(":")


def check_normalisation(mean: object, std: object) -> None:
    """Raise :class:`SettingsError` where images cannot be normalised so; None is what was not given."""
    given = [mean, std]
    numbers = [value for values in given if isinstance(values, tuple) for value in values]
    if given == [None, None]:
        return
    positive = isinstance(std, tuple) and all(map(is_number, std)) and min(std, default=1) > 0
    if () in given or None in given or not all(map(is_number, numbers)) or not positive:
        raise SettingsError(
            "mean and std are one number or one a channel, both given, of pixels as 0..1, std above 0; "
            f"got mean {mean!r:.100} and std {std!r:.100}"
        )
