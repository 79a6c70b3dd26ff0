"""The page of a sweep: what a network lost and gained, on every runtime, by each way of pruning it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netsmith.report import page, text
from netsmith.report.plots import Spec, axes, safe

Point = Mapping[str, Any]
# Colour and symbol of each kind; int8 is the same symbol, open.
_STYLES = {
    "whole": ("var(--c-design)", "star"),
    "channels": ("var(--c-mobile)", "square"),
    "weights": ("var(--c-random)", "triangle-up"),
    "layers": ("var(--k7)", "triangle-down"),
    "pattern": ("var(--k5)", "diamond"),
    "both": ("var(--c-other)", "cross"),
}
_AXES = {
    "latency_ms": ("measured latency of one image (ms)", 1.0),
    "size_bytes": ("file as it is (kB)", 1e-3),
    "stored_bytes": ("file stored, by gzip (kB)", 1e-3),
    "peak_bytes": ("peak memory over idle (MB)", 1e-6),
}
_TITLES = {
    "latency_ms": "Accuracy and latency",
    "size_bytes": "Accuracy and size",
    "stored_bytes": "Accuracy and stored size",
    "peak_bytes": "Accuracy and memory",
}


def write_sweep(path: Path, found: Mapping[str, Any]) -> None:
    """Write the page of what :func:`netsmith.pipeline.sweeping.sweep.run_sweep` returned.

    Raises :class:`netsmith.errors.FolderError` where ``path`` cannot be written.
    """
    points: Sequence[Point] = found["points"]
    settings = list(dict.fromkeys((p["runtime"], p["threads"]) for p in points if not p["reason"]))
    drawn: dict[str, Spec | None] = {}
    shown = []
    for number, (runtime, threads) in enumerate(settings):
        # Bytes of a file are the same with more threads, and memory nearly so.
        first = threads == min(t for r, t in settings if r == runtime)
        figures = list(_AXES) if first else ["latency_ms"]
        names = {figure: f"{figure}-{number}" for figure in figures}
        for figure, name in names.items():
            drawn[name] = _plot(found, runtime, threads, figure)
        shown.append({"runtime": runtime, "threads": threads, "plots": names})
    content = page.compose(
        "sweep.html",
        drawn,
        title=f"{Path(str(found['base'])).name} across the stack",
        found=found,
        settings=shown,
        titles=_TITLES,
        measured=sum(not p["reason"] for p in points),
        networks=[n for n in found["networks"] if not n["reason"]],
    )
    page.write(path, content)


def _plot(found: Mapping[str, Any], runtime: str, threads: int, figure: str) -> Spec:
    """Test accuracy over a figure, for a runtime with so many threads, with the front of it all."""
    points: Sequence[Point] = found["points"]
    title, scale = _AXES[figure]
    asked = {"runtime": runtime, "threads": threads, "by": figure}
    (front,) = [f["points"] for f in found["fronts"] if {n: f[n] for n in asked} == asked]
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
            "x": [scale * points[i][figure] for i in front],
            "y": [100 * points[i]["accuracy"] for i in front],
            "line": {"color": "var(--c-front)", "width": 2, "shape": "hv", "dash": "dot"},
        }
    ]  # fmt: skip
    mine = [p for p in points if (p["runtime"], p["threads"]) == (runtime, threads) and not p["reason"]]
    for kind, precision in dict.fromkeys((p["kind"], p["precision"]) for p in mine):
        group = [p for p in mine if (p["kind"], p["precision"]) == (kind, precision)]
        traces.append(_group(kind, precision, group, figure, scale))
    layout = axes(title, "test accuracy (%)")
    return {"data": traces, "layout": layout, "height": 420}


def _group(kind: str, precision: str, group: Sequence[Point], figure: str, scale: float) -> Spec:
    """The points of a kind in a precision, joined from the least to the most that is taken away."""
    colour, symbol = _STYLES.get(kind, ("var(--c-other)", "circle"))
    whole = precision == "float32"
    trace: Spec = {
        "type": "scatter", "mode": "lines+markers", "name": f"{safe(kind)}{'' if whole else ', int8'}",
        "x": [scale * p[figure] for p in group], "y": [100 * p["accuracy"] for p in group],
        "hoverinfo": "text", "hovertext": [_words(p) for p in group],
        "line": {"color": colour, "width": 1.2, "dash": "solid" if whole else "dash"},
        "marker": {"color": colour, "symbol": symbol if whole else f"{symbol}-open",
                   "size": 15 if kind == "whole" else 10},
    }  # fmt: skip
    if figure == "latency_ms":
        trace["error_x"] = {
            "type": "data", "symmetric": False, "color": colour, "thickness": 1.2, "width": 3,
            "array": [p["latency_ms_interval"][1] - p["latency_ms"] for p in group],
            "arrayminus": [p["latency_ms"] - p["latency_ms_interval"][0] for p in group],
        }  # fmt: skip
    return trace


def _words(point: Point) -> str:
    interval = text.TO.join(map(text.digits, point["latency_ms_interval"]))
    return (
        f"<b>{safe(point['network'])}, {safe(point['precision'])}</b><br>{text.percent(point['accuracy'])} "
        f"on test<br>{text.milliseconds(point['latency_ms'])} ({interval})"
        f"<br>{text.data_size(point['size_bytes'])}, stored {text.data_size(point['stored_bytes'])}"
        f"<br>{text.data_size(point['peak_bytes'])} of memory"
        f"<br>{text.percent(point['zeros'])} of the weights are zero"
    )
