"""The page of a comparison: what each strategy found with every seed, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netsmith.report import page, text
from netsmith.report.plots import Spec, axes, safe

_COLOURS = (
    "var(--c-design)",
    "var(--c-mobile)",
    "var(--c-random)",
    "var(--k5)",
    "var(--k7)",
    "var(--c-other)",
)
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "star")


def write_comparison(path: Path, found: Mapping[str, Any], *, title: str) -> None:
    """Write the page of what :func:`netsmith.pipeline.compare.compared` returned.

    Raises :class:`netsmith.errors.FolderError` where ``path`` cannot be written.
    """
    names = [summary["strategy"] for summary in found["strategies"]]
    runs: Sequence[Mapping[str, Any]] = found["runs"]
    drawn = {"answers": _answers(names, runs), "volumes": _volumes(names, runs)}
    content = page.compose(
        "comparison.html", drawn, title=title, summaries=found["strategies"], runs=runs, tests=found["tests"]
    )
    page.write(path, content)


def _style(names: Sequence[str], name: str) -> tuple[str, str]:
    place = names.index(name)
    return _COLOURS[place % len(_COLOURS)], _SYMBOLS[place % len(_SYMBOLS)]


def _answers(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> Spec:
    """The network that each run handed over: accuracy after the final training over measured latency."""
    traces = []
    for name in names:
        mine, (colour, symbol) = [r for r in runs if r["strategy"] == name], _style(names, name)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": safe(name), "hoverinfo": "text",
                "x": [r["latency_ms"] for r in mine], "y": [100 * r["validation_accuracy"] for r in mine],
                "hovertext": [
                    f"<b>{safe(name)}, seed {r['seed']}</b><br>{text.percent(r['validation_accuracy'])} on "
                    f"validation<br>{text.milliseconds(r['latency_ms'])}"
                    f"<br>{text.duration(r['seconds'])} in all"
                    for r in mine
                ],
                "marker": {"color": colour, "symbol": symbol, "size": 12},
            }
        )  # fmt: skip
    layout = axes("measured latency of one image (ms)", "validation accuracy (%)")
    return {"data": traces, "layout": layout, "height": 400}


def _volumes(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> Spec | None:
    """The hyper-volume of every run's front, strategy by strategy."""
    known = [r for r in runs if r["hypervolume"] is not None]
    if not known:
        return None
    traces = []
    for name in names:
        mine, (colour, symbol) = [r for r in known if r["strategy"] == name], _style(names, name)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": safe(name),
                "x": [safe(name)] * len(mine), "y": [r["hypervolume"] for r in mine],
                "marker": {"color": colour, "symbol": symbol, "size": 12},
                "hovertemplate": "%{y:.4f}",
            }
        )  # fmt: skip
    layout = axes("", "hyper-volume of the front") | {"showlegend": False}
    layout["xaxis"] |= {"type": "category"}
    return {"data": traces, "layout": layout, "height": 400}
