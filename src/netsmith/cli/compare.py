"""``netsmith compare``: strategies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netsmith.cli.output import TerminalProgress, milliseconds, print_json, print_table


def compare(
    data: Annotated[
        str, typer.Argument(help="'digits', a folder of class folders, IDX, CIFAR, .npz, Parquet")
    ],
    strategies: Annotated[
        str, typer.Option(help="such as proxyless,dpp,evolution,random")
    ] = "proxyless,evolution,random",
    device: Annotated[str, typer.Option(help="such as onnxruntime:threads=1")] = "onnxruntime",
    latency: Annotated[str | None, typer.Option(help="most milliseconds of one image, such as 0.2ms")] = None,
    size: Annotated[str | None, typer.Option(help="most bytes of the file, such as 1MB")] = None,
    macs: Annotated[str | None, typer.Option(help="most multiply-adds of one image, such as 30M")] = None,
    budget: Annotated[
        str, typer.Option(help="work to spend on each run: quick, standard, thorough")
    ] = "quick",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="how many seeds each strategy gets")] = 3,
    objectives: Annotated[
        str | None, typer.Option(help="what fronts are of, such as error,latency,size")
    ] = None,
    space: Annotated[str | None, typer.Option(help="of all strategies: mbconv, dense")] = None,
    judge: Annotated[str | None, typer.Option(help="of all strategies: supernet, training")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each final training")] = None,
    search_epochs: Annotated[int | None, typer.Option(help="epochs of each search")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the comparison; runs/compare-NAME otherwise")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the comparison as JSON")] = False,
) -> None:
    """Design by each strategy with several seeds, and compare what came out; go on where it was stopped."""
    from netsmith.pipeline.compare import run_compare
    from netsmith.report import write_comparison

    given: dict[str, Any] = {
        "data": data, "device": device, "latency": latency, "size": size, "macs": macs, "budget": budget,
        "objectives": objectives, "space": space, "judge": judge, "epochs": epochs,
        "search_epochs": search_epochs,
    }  # fmt: skip
    named = [name.strip() for name in strategies.split(",")]
    values = {name: value for name, value in given.items() if value is not None}
    folder = out if out is not None else Path("runs") / f"compare-{Path(data).stem or 'data'}"
    with TerminalProgress() as progress:
        found = run_compare(values, named, seeds, folder, progress=progress)
    page = folder / "comparison.html"
    write_comparison(page, found, title=f"{Path(data).stem} on {device}")
    if json:
        print_json(found)
        return
    rows = [
        [
            summary["strategy"], summary["judge"], _spread(summary["validation_accuracy"], 100, "%"),
            milliseconds(summary["latency_ms"]["mean"]), _spread(summary["hypervolume"], 1, ""),
            f"{summary['seconds']['mean']:.0f} s",
        ]
        for summary in found["strategies"]
    ]  # fmt: skip
    columns = ("strategy", "judged by", "validation accuracy", "latency", "hyper-volume", "time")
    print_table(columns, rows, words=2)
    for figure, test in found["tests"].items():
        if test is not None:
            typer.echo(f"{figure.replace('_', ' ')}: p = {test['p']:.3g} that the ranks differ so by chance")
    typer.echo(f"report: {page}")


def _spread(value: dict[str, float | None], scale: float, unit: str) -> str:
    """Write a mean with its standard deviation, where there are several seeds."""
    if value["mean"] is None:
        return "-"
    shown = f"{scale * value['mean']:.4g}"
    return (
        f"{shown} ± {scale * value['spread']:.2g} {unit}"
        if value["spread"] is not None
        else f"{shown} {unit}"
    )
