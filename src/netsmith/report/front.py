"""The front of a design: every trial that was judged, what nothing beats, and what it cost to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from netsmith import pareto
from netsmith.arch import Arch
from netsmith.errors import ArchError
from netsmith.report import text
from netsmith.report.drawing import Drawing, lay_out, option_name
from netsmith.report.folder import Folder, blocks_of, number
from netsmith.report.plots import Spec, axes, safe

# What a trial is shown by: the name of the axis, and what a value is divided by.
FIGURES = {
    "latency_ms": ("latency of one image (ms)", 1.0),
    "size_bytes": ("size of the file (MB)", 1e6),
    "peak_bytes": ("peak memory (MB)", 1e6),
    "activation_bytes": ("activations (MB)", 1e6),
    "macs": ("multiply-adds of one image (M)", 1e6),
    "params": ("parameters (M)", 1e6),
}
_PREDICTED = {"latency_ms": "latency_ms_predicted"}
_MOST_STEPS = 200


@dataclass(frozen=True)
class Point:
    """One trial; ``words`` tell its arch, ``seconds`` what judging it took."""

    name: str
    figures: dict[str, float]
    reason: str
    words: str
    seconds: float
    on_front: bool
    chosen: bool

    def value(self, figure: str) -> float | None:
        """Return a figure, the predicted one where it was not measured."""
        return self.figures.get(figure, self.figures.get(_PREDICTED.get(figure, figure)))

    @property
    def accuracy(self) -> float | None:
        """On validation images, 0..1."""
        return 1 - self.figures["error"] if "error" in self.figures else None


def objectives(folder: Folder) -> list[str]:
    """Return what the front is of, beside the error; none of a design that looked for one network alone."""
    asked = folder.result.get("objectives") or []
    return [name for name in asked if name in FIGURES] if len(asked) > 1 else []


def points(folder: Folder) -> list[Point]:
    """Return every trial in the order in which they were judged."""
    front = {str(item.get("digest")) for item in folder.result.get("front", [])}
    chosen = _digest(folder.result)
    found: dict[str, Point] = {}
    for event in folder.all("trial"):
        trial = event.get("trial")
        if not isinstance(trial, dict) or not isinstance(trial.get("figures"), dict):
            continue
        digest = _digest(trial)
        known = found.get(digest)
        figures = {n: v for n, value in trial["figures"].items() if (v := number(value)) is not None}
        found[digest] = Point(
            digest[:8],
            {**(known.figures if known else {}), **figures},
            str(trial.get("reason") or ""),
            str(event.get("words") or "") or _words(folder, trial),
            (known.seconds if known else 0.0) + (number(event.get("seconds")) or 0.0),
            digest in front,
            digest == chosen,
        )
    return list(found.values())


def drawings(folder: Folder) -> dict[str, Drawing]:
    """Return the drawing of every arch of the front, by its name, fastest first."""
    found = {}
    for item in folder.result.get("front", []):
        blocks = blocks_of(item.get("plan"))
        if blocks:
            found[str(item.get("digest"))[:8]] = lay_out(blocks)
    return found


def plot(folder: Folder, known_by: str = "measured") -> Spec | None:
    """Validation accuracy of every trial over what else was an objective; the first is shown at first.

    ``figures`` of the plot tells each axis that it may have, and the values of every trace on it.
    """
    names, known = objectives(folder), [p for p in points(folder) if p.accuracy is not None]
    if not names or not known:
        return None
    groups = [
        ("beaten", [p for p in known if not p.on_front and not p.chosen and not p.reason],
         {"mode": "markers", "marker": {"color": "var(--c-other)", "size": 7, "opacity": 0.45}}),
        ("over the budget", [p for p in known if p.reason and not p.chosen],
         {"mode": "markers",
          "marker": {"color": "var(--c-mobile)", "symbol": "x", "size": 8, "opacity": 0.6}}),
        ("front", sorted((p for p in known if p.on_front and not p.reason), key=_by(names[0])),
         {"mode": "lines+markers",
          "line": {"color": "var(--c-front)", "width": 2, "shape": "hv", "dash": "dot"},
          "marker": {"color": "var(--c-front)", "size": 10}}),
        ("chosen", [p for p in known if p.chosen],
         {"mode": "markers", "marker": {"color": "var(--c-design)", "symbol": "star", "size": 17,
                                        "line": {"color": "var(--card)", "width": 1.5}}}),
    ]  # fmt: skip
    groups = [(name, group, style) for name, group, style in groups if group]
    traces = [
        {
            "type": "scatter", "name": name, "hoverinfo": "text", "customdata": [p.name for p in group],
            "y": [100 * (p.accuracy or 0) for p in group], "x": _column(group, names[0]),
            "hovertext": [_said(p, names, known_by) for p in group], **style,
        }
        for name, group, style in groups
    ]  # fmt: skip
    return {
        "data": traces, "layout": axes(FIGURES[names[0]][0], "validation accuracy (%)"), "height": 430,
        "figures": {
            name: {"title": FIGURES[name][0], "x": [_column(group, name) for _, group, _ in groups]}
            for name in names
        },
    }  # fmt: skip


def progress(folder: Folder) -> Spec | None:
    """How much of what the last front dominates was dominated after so many seconds of judging."""
    names = ["error", *objectives(folder)]
    known = [p for p in points(folder) if not p.reason and all(p.value(n) is not None for n in names)]
    if len(names) < 2 or len(known) < 2:
        return None
    rows = [[p.value(name) or 0.0 for name in names] for p in known]
    corner = [1.05 * max(column) for column in zip(*rows, strict=True)]
    seconds = list(accumulate(p.seconds for p in known))
    step = max(1, len(rows) // _MOST_STEPS)
    counts = [*range(1, len(rows), step), len(rows)]
    volumes = [pareto.hypervolume(rows[:n], corner) for n in counts]
    trace = {
        "type": "scatter", "mode": "lines+markers", "x": [seconds[n - 1] / 60 for n in counts],
        "y": [100 * volume / volumes[-1] if volumes[-1] else 0.0 for volume in volumes],
        "line": {"color": "var(--c-design)", "width": 2.5, "shape": "hv"}, "marker": {"size": 5},
        "text": [f"{n} trials" for n in counts],
        "hovertemplate": "%{text}<br>%{x:.3g} min<br>%{y:.1f} %<extra></extra>",
    }  # fmt: skip
    layout = axes("minutes of judging", "share of the last hyper-volume (%)") | {"showlegend": False}
    return {"data": [trace], "layout": layout, "height": 430}


def _by(name: str) -> Any:
    return lambda point: point.value(name) or 0.0


def _column(group: Sequence[Point], name: str) -> list[float | None]:
    scale = FIGURES[name][1]
    return [None if (value := p.value(name)) is None else value / scale for p in group]


def _said(point: Point, names: Sequence[str], known_by: str) -> str:
    lines = [f"<b>{safe(point.name)}</b>", f"{text.percent(point.accuracy or 0)} on validation"]
    for name in names:
        value = point.value(name)
        if value is not None:
            how = f" {known_by}" if name in point.figures and name == "latency_ms" else ""
            title, scale = FIGURES[name]
            lines.append(f"{title}: {text.digits(value / scale)}{how}")
    lines += [safe(words) for words in _wrapped(point.words)]
    if point.reason:
        lines.append(safe(point.reason))
    return "<br>".join(lines)


def _wrapped(words: str, width: int = 60) -> list[str]:
    lines = [""]
    for word in words.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return [line.strip() for line in lines if line.strip()]


def _words(folder: Folder, trial: dict[str, Any]) -> str:
    """Name the options that an arch of a chain chose."""
    edges = folder.arch.get("edges", [])
    try:
        choices = Arch.from_dict(trial.get("arch") or {}).choices
    except ArchError:
        return ""
    if len(edges) != len(choices) or any(c >= len(o) for c, o in zip(choices, edges, strict=True)):
        return ""
    return ", ".join(option_name(options[choice]) for options, choice in zip(edges, choices, strict=True))


def _digest(item: dict[str, Any]) -> str:
    try:
        return Arch.from_dict(item.get("arch") or {}).digest
    except ArchError:
        return repr(item)[:80]
