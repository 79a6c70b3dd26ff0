"""``netsmith pick``: another network of a design's front."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.design import BUDGET_MISSED, show
from netsmith.cli.output import TerminalProgress, print_json


def pick(
    folder: Annotated[Path, typer.Argument(help="folder of a finished design")],
    latency: Annotated[str | None, typer.Option(help="most milliseconds of one image, such as 1ms")] = None,
    memory: Annotated[str | None, typer.Option(help="most memory while running, such as 4MB")] = None,
    activations: Annotated[
        str | None, typer.Option(help="most that activations take at once, such as 320kB")
    ] = None,
    size: Annotated[str | None, typer.Option(help="most bytes of the file, such as 1MB")] = None,
    macs: Annotated[str | None, typer.Option(help="most multiply-adds of one image, such as 30M")] = None,
    params: Annotated[str | None, typer.Option(help="most learned numbers, such as 500k")] = None,
    arch: Annotated[str, typer.Option(help="the arch by its name in the report, in place of limits")] = "",
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Train, export and measure the most accurate network of a design's front that keeps the limits.

    It stands in a folder of its own in the design's, and in its report; picked again it is only shown.

    Exit status: 0 when the limits are met by measurement, 3 when they are not, 2 on an error.
    """
    from netsmith.pipeline.limits import read_limits
    from netsmith.pipeline.pick import pick as train

    limits = {
        "latency": latency, "memory": memory, "activations": activations,
        "size": size, "macs": macs, "params": params,
    }  # fmt: skip
    with TerminalProgress() as progress:
        answer = train(folder, read_limits(limits), digest=arch, progress=progress)
    if json:
        print_json(answer.result)
    else:
        show(answer.result, folder / "report.html", "picked")
        typer.echo(f"exported: {answer.exported}")
    if not answer.budget_met:
        raise typer.Exit(BUDGET_MISSED)
