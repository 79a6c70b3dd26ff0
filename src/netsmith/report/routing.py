"""What the page tells of a network in which every image takes a path of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netsmith.report import text
from netsmith.report.drawing import option_name
from netsmith.report.folder import Folder, number
from netsmith.report.plots import Spec, axes, safe

MOST_PATHS, MOST_EXAMPLES = 200, 16
_PNG = re.compile(r"[A-Za-z0-9+/]{8,40000}={0,2}")


@dataclass(frozen=True, slots=True)
class Path:
    """A path of test images: their share and accuracy, 0..1, and latency; each None where not recorded."""

    images: float | None
    share: float | None
    accuracy: float | None
    latency_ms: float | None
    latency_is: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Test accuracy, 0..1, and latency of a way to choose paths."""

    name: str
    words: str
    accuracy: float | None
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """A small test image, as a PNG in base64, of a cheap path or a dear one."""

    png: str
    label: str
    predicted: str
    latency_ms: float | None


@dataclass(frozen=True)
class Routing:
    """What ``result.json`` tells of paths; ``facts`` are its figures as they were written."""

    facts: Mapping[str, Any]
    paths: Sequence[Path]
    policies: Sequence[Policy]
    examples: Mapping[str, Sequence[Example]]

    @property
    def saved(self) -> float | None:
        """Accuracy above that of the paths dealt out at random, 0..1."""
        ours, dealt = (p.accuracy for p in (self.policies[0], self.policies[1]))
        return None if ours is None or dealt is None else ours - dealt


def read(folder: Folder) -> Routing | None:
    """Return what a design tells of paths; None where all images take one."""
    facts = folder.result.get("routing")
    if not isinstance(facts, dict):
        return None
    shown = _dict(facts.get("examples"))
    return Routing(
        facts=facts,
        paths=[_path(item) for item in _list(facts.get("paths"))[:MOST_PATHS]],
        policies=_policies(folder.result, facts),
        examples={kind: _examples(shown.get(kind)) for kind in ("cheapest", "dearest")},
    )


def plots_of(folder: Folder, routing: Routing) -> dict[str, Spec | None]:
    """Return the plots of paths, policies and bounds."""
    return {
        "path-accuracy": _path_accuracy(routing),
        "policies": _policy_accuracy(routing),
        "bounds": _bounds(folder, routing),
        "operations": _operations(routing),
        "descent": _descent(folder),
    }


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _path(item: object) -> Path:
    told = _dict(item)
    names = ("images", "share", "accuracy", "latency_ms")
    images, share, accuracy, latency = (number(told.get(name)) for name in names)
    known_by = "measured" if told.get("latency_is") == "measured" else "predicted"
    return Path(images, share, accuracy, latency, known_by)


def _policies(result: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Policy]:
    own = number(result.get("latency_ms"))
    constant, single, dealt = (_dict(facts.get(name)) for name in ("constant", "single", "random"))
    return [
        Policy("by image", "what the controller chooses", number(result.get("accuracy")), own),
        Policy(
            "at random", "the same paths, each dealt to another image", number(dealt.get("accuracy")), own
        ),
        Policy("most common path", "one path for all, without a controller", *_figures(constant)),
        Policy("best single path", "by validation, within the same mean latency", *_figures(single)),
    ]


def _figures(told: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return number(told.get("accuracy")), number(told.get("latency_ms_predicted"))


def _examples(items: object) -> list[Example]:
    found = []
    for item in map(_dict, _list(items)[:MOST_EXAMPLES]):
        png = item.get("png")
        if isinstance(png, str) and _PNG.fullmatch(png):
            label, predicted = (str(item.get(name, ""))[:80] for name in ("label", "predicted"))
            found.append(Example(png, label, predicted, number(item.get("latency_ms"))))
    return found


def _path_accuracy(routing: Routing) -> Spec | None:
    """Test accuracy of the images on each path over its latency; as large as its share."""
    known = [p for p in routing.paths if None not in (p.latency_ms, p.accuracy, p.share)]
    if not known:
        return None
    trace = {
        "type": "scatter", "mode": "markers", "hoverinfo": "text",
        "x": [p.latency_ms for p in known], "y": [100 * (p.accuracy or 0) for p in known],
        "hovertext": [
            f"{text.percent(p.accuracy or 0)} of {p.images or 0:.0f} images<br>"
            f"{text.milliseconds(p.latency_ms or 0)} {p.latency_is}" for p in known
        ],
        "marker": {"color": "var(--c-design)", "opacity": 0.75,
                   "size": [8 + 40 * (p.share or 0) ** 0.5 for p in known]},
    }  # fmt: skip
    layout = axes("latency of the path (ms)", "test accuracy (%)") | {"showlegend": False}
    return {"data": [trace], "layout": layout, "height": 360}


def _policy_accuracy(routing: Routing) -> Spec | None:
    """Test accuracy over latency of each way to choose, with the same weights."""
    known = [p for p in routing.policies if p.accuracy is not None and p.latency_ms is not None]
    if not known:
        return None
    colours = ("var(--c-design)", "var(--c-random)", "var(--c-mobile)", "var(--c-other)")
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": policy.name, "hoverinfo": "text",
            "x": [policy.latency_ms], "y": [100 * (policy.accuracy or 0)],
            "hovertext": [f"<b>{policy.name}</b><br>{text.percent(policy.accuracy or 0)} on test<br>"
                          f"{text.milliseconds(policy.latency_ms or 0)}"],
            "marker": {"color": colour, "size": 15},
        }
        for policy, colour in zip(known, colours, strict=False)
    ]  # fmt: skip
    return {"data": traces, "layout": axes("latency (ms)", "test accuracy (%)"), "height": 360}


def _bounds(folder: Folder, routing: Routing) -> Spec | None:
    """Validation accuracy over measured mean latency of what was kept at each bound."""
    found = [
        (number(_dict(b.get("figures")).get("latency_ms")), number(b.get("validation_accuracy")))
        for b in map(_dict, _list(routing.facts.get("bounds")))
    ]
    known = sorted((x, y) for x, y in found if x is not None and y is not None)
    if not known:
        return None
    own = number(folder.result.get("latency_ms")), number(folder.result.get("validation_accuracy"))
    chosen = [own] if None not in own else []
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": "lines+markers", "name": "kept",
            "x": [x for x, _ in known], "y": [100 * y for _, y in known],
            "line": {"color": "var(--c-front)", "width": 2}, "marker": {"size": 10},
            "hovertemplate": "%{x:.4g} ms<br>%{y:.4g} %<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "name": "handed over",
            "x": [x for x, _ in chosen], "y": [100 * (y or 0) for _, y in chosen],
            "marker": {"color": "var(--c-design)", "symbol": "star", "size": 16},
        },
    ]  # fmt: skip
    layout = axes("mean latency of images (ms)", "validation accuracy (%)")
    return {"data": traces, "layout": layout, "height": 360}


def _operations(routing: Routing) -> Spec | None:
    """The share of test images that have each operation of each block active."""
    rows = [[number(value) for value in _list(row)] for row in _list(routing.facts.get("operations"))]
    if not rows or not all(rows):
        return None
    names = [_list(keys) for keys in _dict(routing.facts.get("decisions")).values()]
    shown = names[0] if names and len(names[0]) == len(rows[0]) else range(1, len(rows[0]) + 1)
    trace = {
        "type": "heatmap", "zmin": 0, "zmax": 1, "colorscale": [[0, "var(--card)"], [1, "var(--c-design)"]],
        "x": [str(i) for i in range(1, len(rows) + 1)], "y": [safe(option_name(str(key))) for key in shown],
        "z": [list(column) for column in zip(*rows, strict=False)],
        "hovertemplate": "block %{x}, %{y}<br>%{z:.1%} of images<extra></extra>",
    }  # fmt: skip
    return {"data": [trace], "layout": axes("block", "operation"), "height": 320}


def _descent(folder: Folder) -> Spec | None:
    """The search over its epochs: the upper bound, and the mean latency of what is chosen under it."""
    epochs = [e for e in folder.all("instance_epoch") if e.get("phase") == "search"]
    if not epochs:
        return None
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": name,
            "x": [(number(e.get("epoch")) or 0) + 1 for e in epochs],
            "y": [number(e.get(field)) for e in epochs],
            "line": {"color": colour, "width": 2.5, "dash": dash},
            "hovertemplate": "epoch %{x}<br>%{y:.4g} ms<extra></extra>",
        }
        for name, field, colour, dash in (
            ("upper bound", "upper_ms", "var(--c-budget)", "dash"),
            ("mean latency, predicted", "latency_ms", "var(--c-design)", "solid"),
        )
    ]  # fmt: skip
    return {"data": traces, "layout": axes("epoch of the search", "latency (ms)"), "height": 320}
