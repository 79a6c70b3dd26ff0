"""``netsmith predict``: label and probability of images, from the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netsmith.cli.output import print_json, print_table


def predict(
    folder: Annotated[Path, typer.Argument(help="folder of a finished design")],
    images: Annotated[list[Path], typer.Argument(help="image files")],
    json: Annotated[bool, typer.Option("--json", help="print every label's probability as JSON")] = False,
) -> None:
    """Classify images with the design's exported file, in its device's runtime."""
    from netsmith.pipeline.answer import Design

    predictions = Design.load(folder).predict(images)
    if json:
        print_json([{"image": str(p.image), "probabilities": p.probabilities} for p in predictions])
        return
    rows = [[str(p.image), p.label, f"{p.probability:.4f}"] for p in predictions]
    print_table(("image", "label", "probability"), rows)
