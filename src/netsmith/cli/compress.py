"""``netsmith compress``: a trained network made smaller, by fewer channels or by mixed precision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.design import BUDGET_MISSED, show
from netsmith.cli.output import TerminalProgress, print_json


def compress(
    network: Annotated[
        str,
        typer.Argument(
            help="folder of a finished design; or a network of your own: FILE.py:NAME, package.module:NAME "
            "(NAME is called and returns a torch.nn.Module) or FILE.onnx"
        ),
    ],
    data: Annotated[
        str | None, typer.Argument(help="images for a network of your own; a design brings its own")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="of a network of your own in Python: a safetensors file")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="that the limits are of; a design's own where not given")
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
            "or random, evolution, local, surrogate, nsga2, tpe; "
            "with --precision mixed: programme or haq (an agent)"
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="mixed: keep all channels, and choose which layers of an int8 file stay float32"),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="of --precision mixed without limits: most validation accuracy to lose, such as 0.01"
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="work to spend: quick, standard, thorough")] = None,
    baselines: Annotated[str | None, typer.Option(help="to compare with: none, quick, full")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="of each training afterwards; of --precision mixed none where not given"),
    ] = None,
    teacher: Annotated[
        bool | None,
        typer.Option("--teacher", help="have it learn from the outputs of the network that it came from too"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="taken off your network's images, pixels as 0..1, such as 0.5 or 0.5,0.4,0.3"),
    ] = None,
    std: Annotated[str | None, typer.Option(help="that they are divided by then, 1 where not given")] = None,
    image_size: Annotated[int | None, typer.Option(help="resize your images to this many pixels")] = None,
    test: Annotated[str | None, typer.Option(help="images to keep as the test part")] = None,
    augment: Annotated[str | None, typer.Option(help="auto, none, light, standard, strong")] = None,
    skip_bad: Annotated[bool | None, typer.Option("--skip-bad", help="leave out unreadable images")] = None,
    seed: Annotated[int | None, typer.Option(help="of the splits and of all that is drawn")] = None,
    threads: Annotated[int | None, typer.Option(help="to train with; the fastest where not given")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder of the answer; FOLDER-compressed or runs/NAME-compressed where not given"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Take channels out of a trained network until it keeps the limits, and train it on.

    A limit in percent is a share of what the network takes now. A network of your own takes float images
    (N, C, H, W), pixels as 0..1 less --mean and by --std, and gives a number for each label, in the order of
    their names. Layers that cannot lose channels are named, and left alone. Stopped, the same command goes
    on.

    Exit status: 0 when the limits are met by measurement, 3 when they are not, 2 on an error.
    """
    from netsmith.pipeline.compression.compressed import compression, own_compression
    from netsmith.pipeline.design import run
    from netsmith.pipeline.own import is_file, is_own, named_network, place_of

    options = {
        "device": device, "latency": latency, "memory": memory, "activations": activations, "size": size,
        "macs": macs, "params": params, "strategy": strategy, "precision": precision,
        "max_drop": max_drop, "budget": budget,
        "baselines": baselines, "epochs": epochs, "teacher": teacher, "mean": mean, "std": std,
        "image_size": image_size, "test": test, "augment": augment, "skip_bad": skip_bad, "seed": seed,
        "threads": threads,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    module = None
    if is_own(network):
        module, found = named_network(network, weights)
        settings = own_compression(network, data, {**found, **given})
        place = out if out is not None else place_of(network)
    else:
        folder = Path(network)
        settings = compression(folder, {**given, **_only_own(data, weights)})
        place = out if out is not None else folder.with_name(f"{folder.name}-compressed")
    with TerminalProgress() as progress:
        answer = run(settings, place, module=None if is_file(network) else module, progress=progress)
    if json:
        print_json(answer.result)
    else:
        show(answer.result, answer.folder / "report.html", "compressed")
    if not answer.budget_met:
        raise typer.Exit(BUDGET_MISSED)


def _only_own(data: str | None, weights: Path | None) -> dict[str, str]:
    """What a design's network is not given: its images and weights are its own."""
    given = {"data": data, "base_weights": None if weights is None else str(weights)}
    return {name: value for name, value in given.items() if value is not None}
