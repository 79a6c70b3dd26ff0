"""Quantities are read with their units, and a budget says what breaks it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.budget import Budget, read_quantity
from netsmith.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("0.2ms", "latency_ms", 0.2),
        ("200us", "latency_ms", 0.2),
        ("1 s", "latency_ms", 1000),
        ("5000ns", "latency_ms", 0.005),
        (0.2, "latency_ms", 0.2),
        ("1e-1", "latency_ms", 0.1),
        ("1MB", "size_bytes", 1e6),
        ("1MiB", "size_bytes", 2**20),
        ("2GiB", "peak_bytes", 2**31),
        ("4kB", "peak_bytes", 4000),
        ("4KB", "peak_bytes", 4000),
        ("512B", "peak_bytes", 512),
        ("300M", "macs", 3e8),
        ("1.5G", "macs", 1.5e9),
        (" 500k ", "params", 5e5),
        (12, "params", 12),
    ],
)
def test_quantities(text: str | float, name: str, value: float) -> None:
    assert read_quantity(text, name) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fast", "latency_ms"),
        ("", "latency_ms"),
        ("1.2.3ms", "latency_ms"),
        ("2MB", "latency_ms"),
        ("-1ms", "latency_ms"),
        ("0", "latency_ms"),
        ("2mb", "size_bytes"),
        ("3ms", "macs"),
        ("nan", "macs"),
        (True, "params"),
        ("1" * 5000 + "x", "params"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_what_can(text: str | float, name: str) -> None:
    with pytest.raises(SettingsError, match=r"one of the units|greater than zero") as error:
        read_quantity(text, name)
    assert len(str(error.value)) < 400


def test_the_error_gives_units_and_an_example() -> None:
    with pytest.raises(SettingsError, match="units B, kB, KB, MB, GB, KiB, MiB, GiB, such as '2MB'"):
        read_quantity("2 megabytes", "size_bytes")


@given(st.floats(1e-6, 1e6))
def test_a_number_is_in_the_unit_of_its_name(value: float) -> None:
    assert read_quantity(value, "latency_ms") == value == read_quantity(repr(value), "latency_ms")


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_limits_are_positive_numbers(limit: float) -> None:
    with pytest.raises(SettingsError, match="latency_ms must be a positive number"):
        Budget(latency_ms=limit)


def test_an_overflowing_quantity_is_no_limit() -> None:
    with pytest.raises(SettingsError, match="positive number"):
        Budget(macs=read_quantity("1e999", "macs"))


def test_broken_names_every_limit_that_is_broken() -> None:
    budget = Budget(latency_ms=2.0, size_bytes=1e6)
    assert budget.limits() == {"latency_ms": 2.0, "size_bytes": 1e6}
    assert budget.broken({"latency_ms": 2.0, "size_bytes": 1e6, "macs": 1e12}) == ""
    assert budget.broken({}) == ""
    assert budget.broken({"latency_ms": 2.5}) == "latency_ms 2.5 over the budget's 2"
    said = budget.broken({"latency_ms": 3.0, "size_bytes": 2e6})
    assert "latency_ms 3" in said
    assert "size_bytes 2e+06" in said


def test_not_a_number_keeps_no_limit() -> None:
    assert Budget(latency_ms=2.0).broken({"latency_ms": math.nan})


def test_used_is_the_greatest_share_of_a_limit_that_is_known() -> None:
    budget = Budget(latency_ms=2, size_bytes=100, macs=5)
    assert budget.used({"latency_ms": 1, "size_bytes": 75, "params": 9}) == 0.75
    assert budget.used({"params": 9}) == 0
