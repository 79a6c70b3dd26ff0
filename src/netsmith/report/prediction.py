"""The plots of a latency model: predicted against measured, and what blocks take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from netsmith.report.folder import number
from netsmith.report.plots import Spec, axes, safe

_KERNELS = ("var(--c-other)", "var(--c-design)", "var(--c-mobile)", "var(--c-random)")


def heldout(found: Mapping[str, Any]) -> Spec | None:
    """Measured over predicted latency of whole networks that the latency table never saw."""
    points, sd_ms = found.get("points") or [], found.get("sd_ms") or []
    pairs = [
        (number(p.get("predicted_ms")), number(p.get("measured_ms"))) for p in points if isinstance(p, dict)
    ]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not known:
        return None
    ends = [min(min(pair) for pair in known), max(max(pair) for pair in known)]
    bars = {"array": [2 * (number(sd) or 0) for sd in sd_ms], "color": "var(--c-other)", "thickness": 1}
    traces: list[Spec] = [
        {
            "type": "scatter", "mode": "lines", "name": "equal", "x": ends, "y": ends, "hoverinfo": "skip",
            "line": {"color": "var(--c-front)", "width": 1.5, "dash": "dot"},
        },
        {
            "type": "scatter", "mode": "markers", "name": "network", "x": [x for x, _ in known],
            "y": [y for _, y in known], "marker": {"color": "var(--c-design)", "size": 8, "opacity": 0.75},
            "hovertemplate": "predicted %{x:.4g} ms<br>measured %{y:.4g} ms<extra></extra>",
            **({"error_x": bars} if len(sd_ms) == len(known) else {}),
        },
    ]  # fmt: skip
    layout = axes("predicted latency (ms)", "measured latency (ms)") | {"showlegend": False}
    return {"data": traces, "layout": layout, "height": 360}


def block_costs(blocks: Sequence[Mapping[str, Any]]) -> Spec | None:
    """Milliseconds that a block adds to a network over its multiply-adds, by kernel."""
    kernels = sorted({block["kernel"] for block in blocks})
    traces = []
    for kernel, colour in zip(kernels, cycle(_KERNELS), strict=False):
        group = [block for block in blocks if block["kernel"] == kernel]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": f"kernel {kernel}",
                "x": [block["macs"] for block in group], "y": [block["network_ms"] for block in group],
                "text": [safe(block["name"]) for block in group],
                "marker": {"color": colour, "size": 9},
                "hovertemplate": "%{text}<br>%{x:.4s} MACs<br>%{y:.4g} ms<extra></extra>",
            }
        )  # fmt: skip
    layout = axes("multiply-adds", "latency in a network (ms)")
    return {"data": traces, "layout": layout, "height": 420} if traces else None
