"""The plots of the page, as plain values that plotly.js draws.

Colours are written ``var(--name)``; the page's script puts the value of that style property there, so
that a plot follows the page between light, dark and paper. Text that comes from outside is escaped,
since plotly reads a few tags in text.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

from netsmith.report import text
from netsmith.report.drawing import option_name
from netsmith.report.folder import Folder, number
from netsmith.report.networks import Candidate, Network

Spec = dict[str, Any]
MAX_FRAMES = 120
_STYLES = {
    "design": ("Netsmith", "var(--c-design)", "star", 17),
    "mobilenetv2": ("MobileNetV2", "var(--c-mobile)", "square", 11),
    "random": ("random search", "var(--c-random)", "triangle-up", 13),
    "static": ("one path for all", "var(--c-random)", "diamond", 12),
    "condensenet": ("CondenseNet", "var(--c-other)", "square", 11),
    "pick": ("picked from the front", "var(--c-design)", "star-open", 14),
}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def safe(value: object) -> str:
    """Escape a text from outside for plotly, and cut it where it is long."""
    content = str(value)
    return html.escape(content if len(content) <= 80 else content[:79] + "…")


def trade_off(networks: Sequence[Network], limit: float | None, known_by: str = "measured") -> Spec | None:
    """Test accuracy over latency of the trained networks, ``known_by`` what, their front and the budget."""
    known = [n for n in networks if n.latency_ms is not None and n.accuracy is not None]
    if not known:
        return None
    front = [n for n in known if n.on_front]
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
            "x": [n.latency_ms for n in front], "y": [100 * (n.accuracy or 0) for n in front],
            "line": {"color": "var(--c-front)", "width": 2, "shape": "hv", "dash": "dot"},
        }
    ]  # fmt: skip
    for kind, group in groupby(sorted(known, key=lambda n: n.kind), key=lambda n: n.kind):
        traces.append(_networks(kind, list(group), known_by))
    layout = axes(f"{known_by} latency of one image (ms)", "test accuracy (%)")
    layout["xaxis"]["rangemode"] = "tozero"
    most = max(n.latency_ms or 0 for n in known)
    layout |= _limit(limit, "x", "budget", before=limit is not None and limit > most / 2)
    return {"data": traces, "layout": layout, "height": 400}


def _networks(kind: str, group: list[Network], known_by: str) -> Spec:
    name, colour, symbol, size = _STYLES.get(kind, (safe(kind), "var(--c-other)", "diamond", 12))
    lines = [
        f"<b>{safe(n.name)}</b><br>{text.percent(n.accuracy or 0)} on test"
        f"<br>{text.milliseconds(n.latency_ms or 0)} {known_by}"
        + (f" ({text.digits(n.low_ms)}{text.TO}{text.digits(n.high_ms)})" if n.low_ms and n.high_ms else "")
        for n in group
    ]
    return {
        "type": "scatter", "mode": "markers+text", "name": name, "hovertext": lines, "hoverinfo": "text",
        "x": [n.latency_ms for n in group], "y": [100 * (n.accuracy or 0) for n in group],
        "text": [_tag(n) for n in group],
        "textposition": "bottom center" if kind != "design" else "top center",
        "marker": {"color": colour, "symbol": symbol, "size": size,
                   "line": {"color": "var(--card)", "width": 1.5}},
        "error_x": {"type": "data", "symmetric": False, "color": colour, "thickness": 1.5, "width": 4,
                    "array": [_gap(n.latency_ms, n.high_ms) for n in group],
                    "arrayminus": [_gap(n.low_ms, n.latency_ms) for n in group]},
    }  # fmt: skip


def _gap(low: float | None, high: float | None) -> float:
    return max(0.0, high - low) if low is not None and high is not None else 0.0


def _tag(network: Network) -> str:
    """What stands beside a point: the width of a MobileNetV2; nothing where the legend says it all."""
    if network.kind == "random":
        return ""
    return safe(network.name.removeprefix("mobilenetv2-").removeprefix("mobilenetv2:"))


def choices(found: Sequence[Candidate], limit: float | None, known_by: str = "measured") -> Spec | None:
    """Validation accuracy with the supernet's weights over latency, of the archs that were derived."""
    known = [c for c in found if c.accuracy is not None and c.any_ms is not None]
    groups = (
        (known_by, [c for c in known if c.measured and not c.reason and c.drawn == "derived"], "circle",
         "var(--c-design)"),
        (f"drawn at random, {known_by}", [c for c in known if c.measured and not c.reason
                                       and c.drawn != "derived"], "triangle-up", "var(--c-random)"),
        (f"{known_by}, set aside", [c for c in known if c.measured and c.reason], "x", "var(--c-mobile)"),
        ("predicted only", [c for c in known if not c.measured], "circle-open", "var(--c-other)"),
    )  # fmt: skip
    front = [c for c in known if c.on_front]
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
            "x": [c.any_ms for c in front], "y": [100 * (c.accuracy or 0) for c in front],
            "line": {"color": "var(--c-front)", "width": 2, "shape": "hv", "dash": "dot"},
        }
    ] if len(front) > 1 else []  # fmt: skip
    traces += [
        {
            "type": "scatter", "mode": "markers", "name": name, "hoverinfo": "text",
            "x": [c.any_ms for c in group], "y": [100 * (c.accuracy or 0) for c in group],
            "hovertext": [
                f"<b>{safe(c.name)}</b><br>{text.percent(c.accuracy or 0)} on validation"
                f"<br>{text.milliseconds(c.any_ms or 0)} {known_by if c.measured else 'predicted'}"
                + (f"<br>{safe(c.reason)}" if c.reason else "")
                for c in group
            ],
            "marker": {"color": colour, "symbol": symbol, "size": 10},
        }
        for name, group, symbol, colour in groups if group
    ]  # fmt: skip
    layout = axes("latency of one image (ms)", "validation accuracy (%)")
    layout |= _limit(limit, "x", "budget")
    return {"data": traces, "layout": layout, "height": 400} if traces else None


def paths(folder: Folder) -> Spec | None:
    """The probability of each option of each block, one frame an epoch; the last is drawn first."""
    epochs = [e for e in folder.epochs("search_epoch") if isinstance(e.get("probabilities"), list)]
    frames = _thin(epochs)
    if not frames:
        return None
    columns = len(frames[-1]["probabilities"])
    edges = folder.arch.get("edges", [])
    names = [
        [option_name(key) for key in options]
        for options in (edges if len(edges) == columns else [])
    ] or [[f"option {j + 1}" for j in range(len(row))] for row in frames[-1]["probabilities"]]  # fmt: skip
    rows = list(dict.fromkeys(name for options in names for name in options))
    places = [{name: j for j, name in enumerate(options)} for options in names]
    blocks = [str(i + 1) for i in range(columns)]
    tables = [_table(frame, rows, places) for frame in frames]
    traces: list[Spec] = [
        {
            "type": "heatmap", "x": blocks, "y": [safe(r) for r in rows], "xgap": 2, "ygap": 2,
            "z": tables[-1], "zmin": 0, "zmax": _most(tables),
            "colorscale": [[0, "var(--heat-0)"], [0.5, "var(--heat-1)"], [1, "var(--heat-2)"]],
            "colorbar": {"title": {"text": "probability", "side": "right", "font": {"size": 12}},
                         "thickness": 10,
                         "outlinewidth": 0, "tickformat": ".0%"},
            "hovertemplate": "block %{x}<br>%{y}<br>%{z:.1%}<extra></extra>",
        }
    ]  # fmt: skip
    first = folder.first_choice
    if first is not None and len(edges) == columns:
        taken = [option_name(block.key) for block in folder.plan[first : first + columns]]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": blocks, "y": [safe(t) for t in taken],
                "marker": {"symbol": "circle", "size": 9, "color": "var(--c-mobile)",
                           "line": {"color": "var(--card)", "width": 2}},
                "hovertemplate": "block %{x}<br>taken: %{y}<extra></extra>",
            }
        )  # fmt: skip
    layout = axes("searched block", "")
    layout["xaxis"] |= {
        "type": "category",
        "showgrid": False,
        "dtick": 1,
        "tickangle": 0,
        "range": [-0.5, columns - 0.5],
    }
    layout["yaxis"] |= {"type": "category", "showgrid": False, "range": [len(rows) - 0.5, -0.5]}
    layout |= {"showlegend": False}
    return {
        "data": traces, "layout": layout, "height": 90 + 30 * len(rows),
        "frames": tables,
        "frame_names": [f"epoch {frame.get('epoch')} ({frame.get('phase', 'search')})" for frame in frames],
    }  # fmt: skip


def _most(tables: list[list[list[float | None]]]) -> float:
    """The top of the colours: the highest probability of any epoch, so that small ones stay apart."""
    return max((cell for table in tables for row in table for cell in row if cell is not None), default=1.0)


def _thin(epochs: list[Spec]) -> list[Spec]:
    """At most ``MAX_FRAMES`` of them, evenly, and always the last."""
    step = -(-len(epochs) // MAX_FRAMES)
    return epochs[::-1][:: max(1, step)][::-1]


def _table(epoch: Spec, rows: list[str], places: list[dict[str, int]]) -> list[list[float | None]]:
    """z[row][block]: the probability, None where the block has no such option."""

    def cell(row: str, block: int) -> float | None:
        options = epoch["probabilities"][block] if block < len(epoch["probabilities"]) else ()
        place = places[block].get(row)
        value = number(options[place]) if place is not None and place < len(options) else None
        return None if value is None else round(value, 4)

    return [[cell(row, block) for block in range(len(places))] for row in rows]


def search_curve(folder: Folder, field: str, title: str, limit: float | None = None) -> Spec | None:
    """One figure of the search over its epochs, with the warm-up shaded and a limit, if any."""
    epochs = folder.epochs("search_epoch")
    values = [number(epoch.get(field)) for epoch in epochs]
    if all(value is None for value in values):
        return None
    trace = {
        "type": "scatter", "mode": "lines", "x": [number(e.get("epoch")) for e in epochs], "y": values,
        "line": {"color": "var(--c-design)", "width": 2.5},
        "hovertemplate": "epoch %{x}<br>%{y:.4g}<extra></extra>",
    }  # fmt: skip
    layout = axes("epoch", title) | _limit(limit, "y", "budget") | {"showlegend": False}
    layout["shapes"] = [*layout.get("shapes", []), *_warm_up(epochs)]
    return {"data": [trace], "layout": layout, "height": 230}


def evaluations(folder: Folder) -> Spec | None:
    """Validation accuracy of each arch that a searcher asked for, in its order, and the best so far."""
    stage = "measure" if folder.result.get("judge") == "training" else "derive"
    trials = [e["trial"] for e in folder.all("trial") if e.get("stage") == stage and "trial" in e]
    errors = [number((trial.get("figures") or {}).get("error")) for trial in trials]
    known = [100 * (1 - error) for error in errors if error is not None]
    if not known:
        return None
    order = list(range(1, len(known) + 1))
    shown = [
        ("asked for", "markers", known, {"marker": {"color": "var(--c-other)", "size": 7}}),
        ("best so far", "lines", list(accumulate(known, max)),
         {"line": {"color": "var(--c-design)", "width": 2.5, "shape": "hv"}}),
    ]  # fmt: skip
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": mode, "name": name, "x": order, "y": values,
            "hovertemplate": "evaluation %{x}<br>%{y:.2f} %", **style,
        }
        for name, mode, values, style in shown
    ]  # fmt: skip
    return {"data": traces, "layout": axes("evaluation", "validation accuracy (%)"), "height": 330}


def expected(folder: Folder, limit: float | None) -> Spec | None:
    """The expected latency over the epochs; where another limit was the tightest, what that one counts."""
    told = folder.last("aim").get("figure")
    others = set(folder.result.get("budget", {})) - {"latency_ms"}
    if told == "latency_ms" or (told is None and not others):
        return search_curve(folder, "expected_ms", "expected latency (ms)", limit)
    title = f"expected {told}" if isinstance(told, str) else "expected cost"
    return search_curve(folder, "expected_ms", safe(title), number(folder.last("aim").get("target")))


def _warm_up(epochs: list[Spec]) -> list[Spec]:
    warm = [e["epoch"] for e in epochs if e.get("phase") == "warm-up" and number(e.get("epoch")) is not None]
    if not warm:
        return []
    return [
        {
            "type": "rect", "xref": "x", "yref": "paper", "x0": min(warm), "x1": max(warm), "y0": 0, "y1": 1,
            "fillcolor": "var(--shade)", "line": {"width": 0}, "layer": "below",
        }
    ]  # fmt: skip


def training(folder: Folder, field: str, title: str, scale: float = 1.0) -> Spec | None:
    """One figure of training over its epochs, a line for each network."""
    epochs = folder.epochs("train_epoch")
    names = list(dict.fromkeys(str(epoch.get("name")) for epoch in epochs))
    kinds = {name: str(b.get("kind")) for name, b in folder.result.get("baselines", {}).items()}
    traces = []
    for name in names:
        mine = [e for e in epochs if str(e.get("name")) == name and number(e.get(field)) is not None]
        design = name == "design"
        kind = kinds.get(name) or name.partition("-")[0]
        same = [other for other in names if (kinds.get(other) or other.partition("-")[0]) == kind]
        colour = _STYLES.get(kind, ("", "var(--c-other)", "", 0))[1]
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": "Netsmith" if design else safe(name),
                "x": [number(e.get("epoch")) for e in mine], "y": [scale * e[field] for e in mine],
                "line": {"color": colour, "width": 3 if design else 1.6,
                         "dash": _DASHES[same.index(name) % len(_DASHES)]},
                "hovertemplate": "epoch %{x}<br>%{y:.4g}",
            }
        )  # fmt: skip
    if not any(trace["x"] for trace in traces):
        return None
    return {"data": traces, "layout": axes("epoch", title), "height": 330}


def axes(x: str, y: str) -> Spec:
    """Name the axes of a plot."""
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}


def _limit(limit: float | None, axis: str, words: str, *, before: bool = False) -> Spec:
    """A dashed line across the plot at ``limit`` of the axis, named; ``before`` it if asked, or after it."""
    if limit is None:
        return {}
    other = "y" if axis == "x" else "x"
    line = {"color": "var(--c-budget)", "width": 2, "dash": "dash"}
    ends = {f"{axis}0": limit, f"{axis}1": limit, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    note = {
        axis: limit, other: 1, f"{axis}ref": axis, f"{other}ref": "paper", "showarrow": False,
        "text": f"{words} {text.milliseconds(limit)}", "font": {"color": "var(--c-budget)", "size": 12},
        "xanchor": "left" if axis == "x" and not before else "right",
        "yanchor": "top" if axis == "x" else "bottom", "xshift": 0 if axis == "y" else -5 if before else 5,
    }  # fmt: skip
    return {"shapes": [{"type": "line", "line": line, **ends}], "annotations": [note]}
