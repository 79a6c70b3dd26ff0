"""``netsmith measure``: latency with its spread, peak memory, size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.output import milliseconds, print_json, print_table, size
from netsmith.errors import DeviceError


def measure(
    model: Annotated[Path, typer.Argument(help="folder of a design, or an exported file such as m.onnx")],
    device: Annotated[str | None, typer.Option(help="device; that of the design where not given")] = None,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="images a pass")] = 1,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="most seconds to spend timing")] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="print figures and raw samples as JSON")] = False,
) -> None:
    """Measure an exported network on a device: latency with its spread, peak memory, size, load time."""
    from netsmith.devices.device import parse, reader_of
    from netsmith.devices.memory import footprint
    from netsmith.pipeline.calibration import calibrated

    path, named = _model_of(model)
    chosen = parse(device or named or reader_of(path.suffix))
    content = path.read_bytes()
    shape, input_type = chosen.input_of(content)
    bench, warning = calibrated(chosen)
    run = bench.prepare(content, shape, input_type=input_type, batch_size=batch)
    latency = bench.measure({"model": run}, limit_s=seconds)["model"]
    used = footprint(chosen, content, shape, input_type=input_type)
    if json:
        print_json(
            {
                "model": str(path),
                "device": chosen.name,
                "device_fingerprint": chosen.fingerprint(),
                "batch": batch,
                "warnings": [warning] if warning else [],
                "latency": latency.to_dict(),
                **used.to_dict(),
            }
        )
        return
    low, high = latency.interval_ms
    rows = [
        ["latency, median", milliseconds(latency.median_ms)],
        ["95 % interval of the median", f"{low:.4g} to {high:.4g} ms"],
        ["undisturbed (10th percentile)", milliseconds(latency.low_ms)],
        ["90th percentile", milliseconds(latency.quantile_ms(0.9))],
        ["samples", str(latency.rounds)],
        ["images a pass", str(batch)],
        ["peak memory over idle", size(used.peak_bytes)],
        ["file", size(used.size_bytes)],
        ["load time", milliseconds(used.load_ms)],
    ]
    print_table((f"{path.name} on {chosen.name}", "measured"), rows)
    if warning:
        typer.echo(warning)
    if latency.wide:
        typer.echo("the machine was restless: the interval stayed wide; measure again when it is quiet")


def _model_of(path: Path) -> tuple[Path, str | None]:
    """Return the exported file and, for a design's folder, the name of its device."""
    if path.is_dir():
        from netsmith.pipeline.answer import Design

        answer = Design.load(path)
        return answer.exported, str(answer.result["device"])
    if not path.is_file():
        raise DeviceError(f"there is no file or folder {path} to measure")
    return path, None
