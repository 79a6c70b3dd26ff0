"""Printing: results to stdout, progress to stderr and only to a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

_errors = Console(stderr=True, highlight=False)


def fail(message: str) -> None:
    """Print an error to stderr."""
    _errors.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON to stdout, for machines."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, *, words: int = 1
) -> None:
    """Print a table to stdout; its first ``words`` columns are text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(highlight=False).print(table)


def milliseconds(value: float) -> str:
    """Return a latency as text."""
    return f"{value:.4g} ms"


def size(value: float | None) -> str:
    """Return bytes as text."""
    if value is None:
        return "not measured"
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"


class _TimeLeftColumn(ProgressColumn):
    """The time left, as far as it is known and any is."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return nothing for a part that is finished or that cannot tell."""
        if task.finished or task.time_remaining is None:
            return Text("")
        return Text(f"{timedelta(seconds=round(task.time_remaining))} left", style="progress.remaining")


class TerminalProgress:
    """Shows the work on a terminal: its part, a bar with the time left, the latest figure.

    Use it as a context. Warnings are always printed; all else only where stderr is a terminal.
    """

    def __init__(self) -> None:
        self._live = _errors.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            _TimeLeftColumn(),
            TextColumn("{task.fields[note]}"),
            console=_errors,
            transient=False,
            disable=not self._live,
            speed_estimate_period=600,  # an epoch may take minutes
        )
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._bars.stop()

    def stage(self, title: str) -> None:
        """Finish the bar of the part before, and begin one."""
        if self._task is not None:
            total = self._bars.tasks[-1].total or 1
            self._bars.update(self._task, total=total, completed=total)
        self._task = self._bars.add_task(title, total=None, note="")

    def update(self, done: float, total: float, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=escape(note))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if self._live:
            _errors.print(escape(text), style="dim")

    def warn(self, text: str) -> None:
        """Print a warning, terminal or not."""
        _errors.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)
