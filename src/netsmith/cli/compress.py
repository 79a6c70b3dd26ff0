"""``netsmith compress``: a trained network made smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.design import BUDGET_MISSED, show
from netsmith.cli.output import TerminalProgress, print_json


def compress(
    folder: Annotated[Path, typer.Argument(help="folder of a finished design")],
    device: Annotated[
        str | None, typer.Option(help="that the limits are of; the design's own where not given")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="most milliseconds of one image, such as 0.1ms or 60%")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="most memory while running, such as 4MB or 80%")] = None,
    activations: Annotated[
        str | None, typer.Option(help="most that activations take at once, such as 320kB or 80%")
    ] = None,
    size: Annotated[str | None, typer.Option(help="most bytes of the file, such as 100kB or 50%")] = None,
    macs: Annotated[str | None, typer.Option(help="most multiply-adds, such as 3M or 50%")] = None,
    params: Annotated[str | None, typer.Option(help="most learned numbers, such as 50k or 50%")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="amc (an agent), knapsack, magnitude, uniform; "
            "or random, evolution, local, surrogate, nsga2, tpe"
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="work to spend: quick, standard, thorough")] = None,
    baselines: Annotated[str | None, typer.Option(help="to compare with: none, quick, full")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each training afterwards")] = None,
    teacher: Annotated[
        bool | None, typer.Option(help="have it learn from the outputs of the network that it came from")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="to train with; the fastest where not given")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the answer; FOLDER-compressed where not given")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Take channels out of a design's network until it keeps the limits, and train it on.

    A limit in percent is a share of what the network takes now. Stopped, the same command goes on.

    Exit status: 0 when the limits are met by measurement, 3 when they are not, 2 on an error.
    """
    from netsmith.pipeline.compressed import compression
    from netsmith.pipeline.design import run

    options = {
        "device": device, "latency": latency, "memory": memory, "activations": activations, "size": size,
        "macs": macs, "params": params, "strategy": strategy, "budget": budget, "baselines": baselines,
        "epochs": epochs, "teacher": teacher, "threads": threads,
    }  # fmt: skip
    settings = compression(folder, {name: value for name, value in options.items() if value is not None})
    place = out if out is not None else folder.with_name(f"{folder.name}-compressed")
    with TerminalProgress() as progress:
        answer = run(settings, place, progress=progress)
    if json:
        print_json(answer.result)
    else:
        show(answer.result, answer.folder / "report.html", "compressed")
    if not answer.budget_met:
        raise typer.Exit(BUDGET_MISSED)
