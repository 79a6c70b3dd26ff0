"""Figures as text."""

from __future__ import annotations

import json

import pytest

from netsmith.cli.output import fail, milliseconds, print_json, print_table, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not measured"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1.25e6, "1.25 MB")],
)
def test_sizes(value: float | None, text: str) -> None:
    assert size(value) == text


def test_milliseconds() -> None:
    assert milliseconds(0.123456) == "0.1235 ms"
    assert milliseconds(12.0) == "12 ms"


def test_markup_in_messages_and_cells_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [["[bold]x[/]", "1"]])
    fail("no [red]colour[/] here")
    captured = capsys.readouterr()
    assert "[bold]x[/]" in captured.out
    assert captured.err == "error: no [red]colour[/] here\n"


def test_json_has_no_not_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        print_json(float("nan"))
