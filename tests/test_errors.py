"""Errors are one family, and name what was probably meant."""

from __future__ import annotations

import inspect

import pytest

from netsmith import errors


def test_every_error_is_a_netsmith_error_with_a_docstring() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if kind.__module__ == errors.__name__:
            assert issubclass(kind, errors.NetsmithError), name
            assert kind.__doc__, name
            assert kind.exit_status == 2, name


@pytest.mark.parametrize(("name", "said"), [("latencey", "; did you mean 'latency'?"), ("xyz", ""), ("", "")])
def test_nearest(name: str, said: str) -> None:
    assert errors.nearest(name, ["latency", "memory"]) == said


def test_a_missing_package_names_the_extra() -> None:
    error = errors.MissingExtraError("pyarrow", "parquet", "reading Parquet")
    assert str(error) == (
        "reading Parquet needs the package 'pyarrow', which is not installed; "
        "install it with: pip install 'netsmith[parquet]'"
    )
