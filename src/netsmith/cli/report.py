"""``netsmith report``: the page that shows a design."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="folder of a design, finished or not")]) -> None:
    """Write report.html of a design again."""
    from netsmith.report import write_report

    typer.echo(str(write_report(folder)))
