"""``netsmith sweep``: what a network loses and gains across the stack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from netsmith.cli.output import TerminalProgress, milliseconds, print_json, print_table, size


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
    from netsmith.pipeline.grid import Grid
    from netsmith.pipeline.sweep import run_sweep

    grid = Grid.read(device, threads=threads, kinds=kinds, strengths=strengths)
    place = out if out is not None else folder.with_name(f"{folder.name}-sweep")
    with TerminalProgress() as progress:
        found = run_sweep(folder, grid, place, epochs=epochs, progress=progress)
    if json:
        print_json(found)
        return
    columns = (
        "network", "runtime", "precision", "threads", "accuracy", "latency", "file", "stored", "memory",
        "zeros",
    )  # fmt: skip
    print_table(columns, [_row(point) for point in found["points"] if not point["reason"]], words=3)
    for reason in dict.fromkeys(p["reason"] for p in found["points"] if p["reason"]):
        without = [p for p in found["points"] if p["reason"] == reason]
        typer.echo(f"{len(without)} points not measured, {_place(without[0])}: {reason}")
    for sentence in found["finding"]["text"]:
        typer.echo(sentence)
    typer.echo(f"report: {place / 'report.html'}")


def _row(point: Mapping[str, Any]) -> list[str]:
    low, high = point["latency_ms_interval"]
    return [
        point["network"], point["runtime"], point["precision"], str(point["threads"]),
        f"{100 * point['accuracy']:.2f} %",
        f"{'~' if point['wide'] else ''}{milliseconds(point['latency_ms'])} ({low:.4g} to {high:.4g})",
        size(point["size_bytes"]), size(point["stored_bytes"]), size(point["peak_bytes"]),
        f"{100 * point['zeros']:.1f} %",
    ]  # fmt: skip


def _place(point: Mapping[str, Any]) -> str:
    return (
        f"such as {point['network']} on {point['runtime']}, {point['precision']}, {point['threads']} threads"
    )
