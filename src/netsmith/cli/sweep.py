"""``netsmith sweep``: what a network loses and gains across the stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netsmith.cli.output import TerminalProgress, print_json, print_table, size


def sweep(
    folder: Annotated[Path, typer.Argument(help="folder of a finished design")],
    device: Annotated[
        list[str], typer.Option(help="a runtime such as onnxruntime; several times for several side by side")
    ],
    threads: Annotated[str, typer.Option(help="to run with, such as 1,2")] = "1",
    kinds: Annotated[
        str | None,
        typer.Option(
            help="what is taken away: weights (of the network), layers (weights of each layer), "
            "pattern (n:m), channels, both (channels, then weights); weights,pattern,channels otherwise"
        ),
    ] = None,
    strengths: Annotated[
        str | None,
        typer.Option(
            help="how much: shares of the weights, or of the multiply-adds for channels; "
            "0,0.25,0.5,0.75 otherwise"
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="epochs of every training; those of the design where not given")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the sweep; FOLDER-sweep where not given")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the sweep as JSON")] = False,
) -> None:
    """Prune a design's network in several ways and measure all of it, in float32 and int8, on every device.

    Stopped, the same command goes on; asked for more devices or strengths, it adds them.
    """
    from netsmith.pipeline.sweeping.grid import Grid
    from netsmith.pipeline.sweeping.sweep import run_sweep

    grid = Grid.read(device, threads=threads, kinds=kinds, strengths=strengths)
    place = out if out is not None else folder.with_name(f"{folder.name}-sweep")
    with TerminalProgress() as progress:
        found = run_sweep(folder, grid, place, epochs=epochs, progress=progress)
    if json:
        print_json(found)
        return
    for runtime, precision in dict.fromkeys((p["runtime"], p["precision"]) for p in found["points"]):
        mine = [p for p in found["points"] if (p["runtime"], p["precision"]) == (runtime, precision)]
        _print(f"{runtime}, {precision}", [p for p in mine if not p["reason"]])
    for reason in dict.fromkeys(p["reason"] for p in found["points"] if p["reason"]):
        without = [p for p in found["points"] if p["reason"] == reason]
        typer.echo(f"{len(without)} points not measured, {_place(without[0])}: {reason}")
    for paragraph in found["finding"]["text"]:
        typer.echo(f"\n{paragraph}")
    typer.echo(f"report: {place / 'report.html'}")


def _print(title: str, points: Sequence[Mapping[str, Any]]) -> None:
    """Print the points of a runtime in a precision: a row for each network, a latency for each of threads."""
    threads = sorted({p["threads"] for p in points})
    rows = []
    for network in dict.fromkeys(p["network"] for p in points):
        by = {p["threads"]: p for p in points if p["network"] == network}
        first = next(iter(by.values()))
        rows.append(
            [
                network, f"{100 * first['accuracy']:.2f} %", size(first["size_bytes"]),
                size(first["stored_bytes"]), size(first["peak_bytes"]),
                *(_latency(by[count]) if count in by else "-" for count in threads),
            ]
        )  # fmt: skip
    latencies = [f"{count}-thread ms" for count in threads]
    if rows:
        print_table(("network", "accuracy", "file", "stored", "memory", *latencies), rows, title)


def _latency(point: Mapping[str, Any]) -> str:
    return f"{'~' if point['wide'] else ''}{point['latency_ms']:.4g}"


def _place(point: Mapping[str, Any]) -> str:
    return (
        f"such as {point['network']} on {point['runtime']}, {point['precision']}, {point['threads']} threads"
    )
