"""``netsmith profile``: the latency table of a device, and how well it predicts."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.output import TerminalProgress, print_json, print_table
from netsmith.errors import SettingsError, nearest


def profile(
    device: Annotated[str, typer.Option(help="such as onnxruntime:threads=1")] = "onnxruntime",
    space: Annotated[str, typer.Option(help="the set of architectures: mbconv")] = "mbconv",
    input_: Annotated[str, typer.Option("--input", help="channels x height x width")] = "3x32x32",
    classes: Annotated[int, typer.Option(min=2, help="labels to tell apart")] = 10,
    width: Annotated[float, typer.Option(help="width of the space")] = 1.0,
    networks: Annotated[
        int | None,
        typer.Option(min=3, max=1000, help="whole networks to fit the predictor to; 40, or 10 of a transfer"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=5, max=3600, help="most seconds to time them, and those held out")
    ] = 50.0,
    save: Annotated[
        str | None, typer.Option(help="where to write the table: FILE.json, or a name for table:NAME")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="where to write a page of plots and tables: FILE.html")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--transfer", help="measure a few networks, and take blocks from this table of another device"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print table and errors as JSON")] = False,
) -> None:
    """Build the latency table of a space on a device, and print its error on networks never used for it."""
    if space != "mbconv":
        raise SettingsError(f"unknown space '{space}'{nearest(space, ['mbconv'])}; known: mbconv")
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", input_)
    if match is None:
        raise SettingsError(f"input is channels x height x width, such as 1x28x28; got '{input_}'")
    channels, height, image_width = map(int, match.groups())
    if report is not None and (report.suffix != ".html" or not report.parent.is_dir()):
        raise SettingsError(f"--report is FILE.html in a folder that there is; got '{report}'")

    from netsmith.devices.device import parse
    from netsmith.latency.files import find_table, place_to_save, read_model, write_model
    from netsmith.latency.fit import PREDICTORS
    from netsmith.latency.profile import FIT_NETWORKS, fit_model
    from netsmith.latency.profile import profile as build
    from netsmith.latency.transfer import NETWORKS, transfer
    from netsmith.nn.count import count_block
    from netsmith.pipeline.calibration import calibrated
    from netsmith.report import write_profile
    from netsmith.spaces.mbconv import mbconv

    path = place_to_save(save) if save is not None else None
    known = read_model(find_table(source)) if source is not None else None
    chosen = mbconv((channels, height, image_width), classes, width=width)
    bench, warning = calibrated(parse(device))
    started = time.perf_counter()
    with TerminalProgress() as progress:
        if warning:
            progress.warn(warning)
        progress.stage(f"Profiling {chosen.id}")
        if known is None:
            fitted = networks or FIT_NETWORKS
            model = build(chosen, bench, fit_networks=fitted, networks_s=seconds, on_progress=progress.update)
        else:
            fitted = networks or NETWORKS
            transferred = transfer(
                chosen, bench, known, networks=fitted, networks_s=seconds, on_progress=progress.update
            )
            model = transferred.model
            progress.say(transferred.describe())
    took = time.perf_counter() - started
    if path is not None:
        write_model(path, model)
        typer.echo(f"table: {path}", err=True)
    tried = {}
    if known is None:
        tried = {
            name: fit_model(chosen, model.table, name, fit_networks=fitted).heldout for name in PREDICTORS
        }
    if report is not None:
        write_profile(
            report,
            device=bench.device.name,
            fingerprint=bench.fingerprint(),
            space=chosen.id,
            seconds=took,
            correction=model.correction.describe(),
            heldout=model.heldout.to_dict(),
            predictors={name: heldout.to_dict() for name, heldout in tried.items()},
            blocks=[
                {
                    "name": block.key,
                    "kernel": block.kernel,
                    "macs": count_block(block).macs,
                    "alone_ms": model.table.alone_ms(block),
                    "network_ms": model.block_ms(block),
                }
                for block in chosen.blocks
            ],
        )
        typer.echo(f"page: {report}", err=True)
    if json:
        print_json({"space": chosen.id, "seconds": took, **model.to_dict()})
        return
    rows = [
        [block.key, f"{model.table.alone_ms(block):.4f}", f"{model.block_ms(block):.4f}"]
        for block in chosen.blocks
    ]
    print_table((f"block on {bench.device.name}", "ms alone", "ms in a network"), rows, title=chosen.id)
    if tried:
        rows = [[name, f"{100 * h.error:.1f} %", f"{h.spearman:.3f}"] for name, h in tried.items()]
        print_table(("predictor", "mean error", "rank correlation"), rows, title="On networks held out")
    typer.echo(model.correction.describe())
    typer.echo(f"{model.heldout.describe()}; {took:.0f} s")
