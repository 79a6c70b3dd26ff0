"""``netsmith design``: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netsmith.cli.output import TerminalProgress, milliseconds, print_json, print_table, size
from netsmith.errors import SettingsError

BUDGET_MISSED = 3

Limit = Annotated[str | None, typer.Option(metavar="LIMIT")]


def design(
    data: Annotated[
        str | None, typer.Argument(help="'digits', a folder of class folders, IDX, CIFAR, .npz or Parquet")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="such as onnxruntime:threads=1, see netsmith devices; several times for several devices"
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(help="most milliseconds of one image, such as 0.2ms; of several devices A=1ms,B=2ms"),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="most memory while running, such as 4MB")] = None,
    activations: Annotated[
        str | None, typer.Option(help="most that activations take at once, such as 320kB")
    ] = None,
    size_: Annotated[str | None, typer.Option("--size", help="most bytes of the file, such as 1MB")] = None,
    macs: Annotated[str | None, typer.Option(help="most multiply-adds of one image, such as 30M")] = None,
    params: Annotated[str | None, typer.Option(help="most learned numbers, such as 500k")] = None,
    budget: Annotated[str | None, typer.Option(help="work to spend: quick, standard, thorough")] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same archs")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the design; runs/NAME where not given")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of these settings")] = None,
    space: Annotated[
        str | None, typer.Option(help="the set of architectures: mbconv, dense, routed, joint")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="width of the space; fitted to the budget otherwise")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="proxyless; instance; dpp; path-level; apq; "
            "or random, evolution, local, surrogate, nsga2, tpe"
        ),
    ] = None,
    objectives: Annotated[
        str | None, typer.Option(help="what a front is of, such as error,latency,size")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="how archs are judged: supernet, training (each for a short while)")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="where trials are kept, a file or an address such as postgresql://HOST/DB"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="how many such designs, each with its own --out, share the storage")
    ] = None,
    update: Annotated[str | None, typer.Option(help="of path probabilities: gradient, reinforce")] = None,
    weights: Annotated[str | None, typer.Option(help="of the supernet: shared, own")] = None,
    controller: Annotated[
        str | None, typer.Option(help="what chooses an image's path: light, resnet")
    ] = None,
    start: Annotated[str | None, typer.Option(help="train from: supernet, scratch")] = None,
    baselines: Annotated[str | None, typer.Option(help="to compare with: none, quick, full")] = None,
    augment: Annotated[str | None, typer.Option(help="auto, none, light, standard, strong")] = None,
    image_size: Annotated[int | None, typer.Option(help="resize images to this many pixels")] = None,
    test: Annotated[str | None, typer.Option(help="images to keep as the test part")] = None,
    skip_bad: Annotated[bool | None, typer.Option("--skip-bad", help="leave out unreadable images")] = None,
    search_epochs: Annotated[int | None, typer.Option(help="epochs of the search")] = None,
    threads: Annotated[int | None, typer.Option(help="to train with; the fastest where not given")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of each training")] = None,
    share: Annotated[
        float | None, typer.Option(help="part of its epochs that each training takes, such as 0.5")
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option("--compress", help="design within looser limits, then take channels out to keep them"),
    ] = None,
    looser: Annotated[
        float | None, typer.Option(help="how many times the limits the network before --compress may take")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NETWORK",
            help="trained network to grow paths in: folder of a finished design, or FILE.py:NAME",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="network to train first and grow paths in: densenet, pyramidnet, mobilenetv2"),
    ] = None,
    base_weights: Annotated[
        Path | None, typer.Option(help="of --from FILE.py:NAME: a safetensors file")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="taken off the images, pixels as 0..1, of --from with your own network")
    ] = None,
    std: Annotated[str | None, typer.Option(help="that they are divided by then, 1 where not given")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Design a network for images, a device and a budget; go on with it where it was stopped.

    Several devices share one search and get a network each, in a folder each.

    Exit status: 0 when the budget is met by measurement, 3 when it is not, 2 on an error.
    """
    options = {
        "data": data, "device": device, "latency": latency, "memory": memory,
        "activations": activations, "size": size_, "macs": macs, "params": params,
        "budget": budget, "seed": seed, "space": space, "width": width,
        "strategy": strategy, "objectives": objectives, "judge": judge,
        "storage": storage, "workers": workers,
        "update": update, "weights": weights, "controller": controller, "start": start,
        "baselines": baselines, "augment": augment, "image_size": image_size, "test": test,
        "skip_bad": skip_bad, "search_epochs": search_epochs, "threads": threads, "epochs": epochs,
        "share": share, "compress": compress, "looser": looser, "base": _base(from_, base),
        "base_weights": None if base_weights is None else str(base_weights), "mean": mean, "std": std,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if device is not None and len(device) == 1:
        given["device"] = device[0]
    from netsmith.pipeline.growing.asked import from_base
    from netsmith.pipeline.settings import given_once, merge, read_toml

    values = read_toml(config) if config is not None else {}
    if "out" in values and out is not None:
        raise SettingsError("'out' is given both in the configuration file and as an option; give it once")
    folder = values.pop("out", out)
    if not isinstance(folder, str | Path | None):
        raise SettingsError(f"out is the folder of the design, as text; got {folder!r:.100}")
    values, module = given_once(values, given), None
    if "base" in given:  # what only a file names is not run
        values, module = from_base(values)
    asked = merge(values, {})
    path = Path(folder) if folder is not None else asked[0].default_folder()

    from netsmith.pipeline.design import run
    from netsmith.pipeline.searching.several import run_several

    with TerminalProgress() as progress:
        if len(asked) == 1:
            answers = [run(asked[0], path, module=module, progress=progress)]
        else:
            answers = run_several(asked, path, progress=progress)
    results = [answer.result for answer in answers]
    if json:
        print_json(results[0] if len(results) == 1 else results)
    else:
        for answer in answers:
            show(answer.result, answer.folder / "report.html")
        _show_matrix(results[0].get("matrix", []))
    if not all(answer.budget_met for answer in answers):
        raise typer.Exit(BUDGET_MISSED)


def _base(trained: str | None, start: str | None) -> str | None:
    """The network to begin with, of which one option may name one."""
    from netsmith.pipeline.way import STARTS

    known = ", ".join(STARTS)
    if trained is not None and start is not None:
        raise SettingsError("--from names a trained network, and --base one that is trained first; give one")
    if trained in STARTS:
        raise SettingsError(
            f"'{trained}' is trained first: --base {trained}; a folder of that name is ./{trained}"
        )
    if start is not None and start not in STARTS:
        raise SettingsError(f"--base is one of {known}; got '{start}'. A trained network goes with --from")
    return trained if trained is not None else start


def show(result: dict[str, Any], report: Path, name: str = "this design") -> None:
    """Print an answer beside its baselines, and where its report is."""
    networks = {name: result, **result.get("baselines", {})}
    rows = [
        [
            name,
            f"{100 * item['accuracy_exported']:.2f} %",
            milliseconds(item["latency_ms"]),
            size(item["size_bytes"]),
            size(item["peak_bytes"]),
            f"{item['macs'] / 1e6:.3g} M",
        ]
        for name, item in networks.items()
    ]
    known_by = result["latency_is"]
    print_table(("network", "test accuracy", f"latency, {known_by}", "file", "peak memory", "MACs"), rows)
    limits = ", ".join(f"{name} {limit:.6g}" for name, limit in result["budget"].items()) or "none"
    if result["budget_met"]:
        how = "as looked up in" if known_by == "looked up" else "by measurement on"
        typer.echo(f"budget met {how} {result['device']}: {limits}")
    else:
        typer.echo(f"BUDGET MISSED ({limits}): {'; '.join(result['reasons'])}")
    typer.echo(f"report: {report}")


def _show_matrix(matrix: list[dict[str, Any]]) -> None:
    """Print what the network of each device takes on each."""
    devices = list(dict.fromkeys(item["device"] for item in matrix))
    rows: dict[str, list[str]] = {}
    for item in matrix:
        cell = f"{milliseconds(item['latency_ms'])}, {100 * item['accuracy_exported']:.2f} %"
        rows.setdefault(item["network"], []).append(cell)
    if rows:
        print_table(
            ("network for", *(f"on {device}" for device in devices)), [[k, *v] for k, v in rows.items()]
        )
