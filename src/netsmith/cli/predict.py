"""``netsmith predict``: label and probability of images, from the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netsmith.cli.output import milliseconds, print_json, print_table


def predict(
    folder: Annotated[Path, typer.Argument(help="folder of a finished design")],
    images: Annotated[list[Path], typer.Argument(help="image files")],
    explain: Annotated[
        bool, typer.Option("--explain", help="also the path that each image takes, and its latency")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print every label's probability as JSON")] = False,
) -> None:
    """Classify images with the design's exported file, in its device's runtime."""
    from netsmith.pipeline.answer import Design

    predictions = Design.load(folder).predict(images, explained=explain)
    if json:
        print_json([_json(prediction) for prediction in predictions])
        return
    rows = [[str(p.image), p.label, f"{p.probability:.4f}"] for p in predictions]
    print_table(("image", "label", "probability"), rows)
    for prediction in predictions:
        if prediction.explanation is not None:
            _show(prediction)


def _json(prediction: Any) -> dict[str, Any]:
    told = {"image": str(prediction.image), "probabilities": prediction.probabilities}
    return told if prediction.explanation is None else told | prediction.explanation.to_dict()


def _show(prediction: Any) -> None:
    """Print the path of an image, block by block, and what it takes."""
    why = prediction.explanation
    likely = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:3]
    typer.echo(
        f"\n{prediction.image}: {', '.join(f'{label} {100 * share:.1f} %' for label, share in likely)}; "
        f"{milliseconds(why.latency_ms)} {why.latency_is}, a path of {100 * why.share:.1f} % of test images"
    )
    print_table(("block", "operations"), [[str(i), name] for i, name in enumerate(why.blocks)], words=2)
