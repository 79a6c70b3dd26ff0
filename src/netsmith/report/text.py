"""Writes figures the way people read them; each stands beside its exact value in the page."""

from __future__ import annotations

import time
from collections.abc import Callable

from markupsafe import Markup

from netsmith.report.folder import number

ABSENT = "not recorded"
_SPACE = "\u202f"  # narrow and unbreakable: a number never parts from its unit
TIMES, TO = "\u00d7", "\u2013"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def digits(value: float, significant: int = 3) -> str:
    """Write ``value`` with ``significant`` digits; a power of ten under 0.0001 and from a million on."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.{significant - 1}e}".partition("e")
        return f"{mantissa}{_SPACE}{TIMES}{_SPACE}10{str(int(exponent)).translate(_RAISED)}"
    rounded = float(f"{value:.{significant}g}")
    whole = len(str(int(abs(rounded))))
    if abs(rounded) < 1:
        return f"{value:#.{significant}g}".rstrip(".")
    return f"{value:,.{max(0, significant - whole)}f}"


def milliseconds(value: float) -> str:
    """Write a latency: ``0.563 ms``."""
    return f"{digits(value)}{_SPACE}ms"


def percent(value: float) -> str:
    """Write a share of 0..1: ``93.64 %``."""
    return f"{100 * value:.2f}{_SPACE}%"


def percents(value: float) -> str:
    """Write what is in per cent already."""
    return f"{digits(value)}{_SPACE}%"


def data_size(value: float) -> str:
    """Write bytes in decimal units: ``4.79 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{digits(value / scale)}{_SPACE}{unit}"
    return f"{value:.0f}{_SPACE}B"


def count(value: float) -> str:
    """Write a large number of things: ``17.5 M``; small ones whole."""
    for unit, scale in (("G", 1e9), ("M", 1e6)):
        if value >= scale:
            return f"{digits(value / scale)}{_SPACE}{unit}"
    return f"{value:,.0f}"


def duration(value: float) -> str:
    """Write seconds: ``42 min 24 s``."""
    if value < 60:
        return f"{digits(value)}{_SPACE}s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{_SPACE}h {minutes}{_SPACE}min"
    return f"{minutes}{_SPACE}min {seconds}{_SPACE}s"


def moment(value: float) -> str:
    """Write seconds since 1970 as a date and time of day, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(value))


FORMATS: dict[str, Callable[[float], str]] = {
    "ms": milliseconds,
    "percent": percent,
    "percents": percents,
    "size": data_size,
    "count": count,
    "duration": duration,
    "digits": digits,
    "whole": lambda value: f"{value:,.0f}",
    "plain": lambda value: f"{value:g}",
}
BUDGET_FORMATS = {
    "latency_ms": "ms", "peak_bytes": "size", "activation_bytes": "size", "size_bytes": "size",
    "macs": "count", "params": "count",
}  # fmt: skip


def figure(value: object, kind: str) -> Markup:
    """Return a ``<data>`` element: the exact value for machines, the readable one for people."""
    known = number(value)
    if known is None:
        return Markup('<span class="absent">{}</span>').format(ABSENT)
    return Markup('<data value="{}">{}</data>').format(repr(known), FORMATS[kind](known))
