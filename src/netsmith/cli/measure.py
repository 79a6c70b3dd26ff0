"""``netsmith measure``: latency with its spread, throughput, peak memory, size, energy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netsmith.cli.output import milliseconds, print_json, print_table, size

if TYPE_CHECKING:
    from netsmith.pipeline.timing import Timed


def measure(
    model: Annotated[Path, typer.Argument(help="folder of a design, or an exported file such as m.onnx")],
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="a device, that of the design where not given; several times for several side by side"
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="images a pass")] = 1,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="most seconds to time each device")] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="print figures and raw samples as JSON")] = False,
) -> None:
    """Measure a network on devices in turn: latency, throughput, memory, size, load time, energy."""
    from netsmith.pipeline.timing import time_on

    timed = time_on(model, device or [], batch=batch, limit_s=seconds)
    if json:
        print_json({"model": str(model), "devices": [one.to_dict() for one in timed]})
        return
    rows = [[name, *(text(one) for one in timed)] for name, text in _ROWS]
    print_table((model.name, *(one.device.name for one in timed)), rows)
    for one in timed:
        if one.warning:
            typer.echo(one.warning)
        if one.latency.wide:
            typer.echo(
                f"the machine was restless: the interval on {one.device.name} stayed wide; measure again "
                "when it is quiet"
            )


def _energy(millijoules: float | None) -> str:
    return "not available" if millijoules is None else f"{millijoules:.4g} mJ"


_ROWS: list[tuple[str, Callable[[Timed], str]]] = [
    ("latency, median", lambda one: milliseconds(one.latency.median_ms)),
    ("95 % interval of the median", lambda one: "{:.4g} to {:.4g} ms".format(*one.latency.interval_ms)),
    ("undisturbed (10th percentile)", lambda one: milliseconds(one.latency.low_ms)),
    ("90th percentile", lambda one: milliseconds(one.latency.quantile_ms(0.9))),
    ("samples", lambda one: str(one.latency.rounds)),
    ("images a pass", lambda one: str(one.batch)),
    ("images a second", lambda one: f"{one.images_per_s:.4g}"),
    ("peak memory over idle", lambda one: size(one.footprint.peak_bytes)),
    ("file", lambda one: size(one.footprint.size_bytes)),
    ("load time", lambda one: milliseconds(one.footprint.load_ms)),
    ("energy of an image", lambda one: _energy(one.footprint.energy_mj)),
]
