"""What a sweep shows, from its figures alone: ratios with intervals, fronts, and the published finding.

Turner et al. 2018: at a fixed accuracy channel pruning is the best choice for time and memory, while weight
pruning, whose network is smaller on paper, often runs no faster.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netsmith import pareto
from netsmith.pipeline.sweeping.grid import SHARES_OF_WEIGHTS, WHOLE

Point = Mapping[str, Any]
# What accuracy is set against, each by its figure.
AGAINST = ("latency_ms", "size_bytes", "stored_bytes", "peak_bytes")
# A network is faster where its interval says so by this much, and as accurate within this many points of 1.
SURELY, AS_ACCURATE = 1.05, 0.01
# It rarely pays where a smaller share of the points is surely faster than this, and mostly from that on.
RARELY, MOSTLY = 0.25, 0.5


def fronts(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return, for each runtime and threads, the points that nothing beats in error and each other figure.

    A front is a list of places in ``points``, of the least figure first.
    """
    found = []
    settings = dict.fromkeys((p["runtime"], p["threads"]) for p in points)
    for runtime, threads in settings:
        places = [
            i
            for i, p in enumerate(points)
            if (p["runtime"], p["threads"]) == (runtime, threads) and not p["reason"]
        ]
        for figure in AGAINST:
            kept = pareto.front([[1 - points[i]["accuracy"], points[i][figure]] for i in places])
            order = sorted((places[i] for i in kept), key=lambda i: float(points[i][figure]))
            found.append({"runtime": runtime, "threads": threads, "by": figure, "points": order})
    return found


def finding(points: Sequence[Point]) -> dict[str, Any]:
    """Return what each kind of network, int8 and more threads gained, the verdict, and it all in words."""
    measured = [p for p in points if not p["reason"]]
    kinds = list(dict.fromkeys(p["kind"] for p in measured if p["kind"] != WHOLE))
    gains = {kind: _gain(_pairs(measured, kind)) for kind in kinds}
    fewest = min((p["threads"] for p in measured), default=1)
    beside = {
        "int8": _gain(_changed(measured, "precision", "float32")),
        "threads": _gain(_changed(measured, "threads", fewest)),
    }
    gains |= {name: gain for name, gain in beside.items() if gain["points"]}
    verdict = _verdict(gains)
    text = [*_paragraphs(gains, verdict, fewest), *_doubts(measured)]
    return {"gains": gains, "verdict": verdict, "text": text}


def ratio(whole: Point, other: Point) -> tuple[float, float, float]:
    """Return how many times as fast ``other`` is, and between what that surely lies.

    The ends of the interval are those of the two medians' intervals at their worst.
    """
    (low, high), (own_low, own_high) = whole["latency_ms_interval"], other["latency_ms_interval"]
    return whole["latency_ms"] / other["latency_ms"], low / own_high, high / own_low


def _pairs(points: Sequence[Point], kind: str) -> list[tuple[Point, Point]]:
    """Each point of a kind with the whole network under the same conditions."""
    names = ("runtime", "precision", "threads")
    whole = {tuple(p[n] for n in names): p for p in points if p["kind"] == WHOLE}
    mine = [p for p in points if p["kind"] == kind]
    return [(whole[key], p) for p in mine if (key := tuple(p[n] for n in names)) in whole]


def _changed(points: Sequence[Point], name: str, usual: Any) -> list[tuple[Point, Point]]:
    """Each point whose ``name`` is not the usual with that which differs in this alone."""
    names = [n for n in ("network", "runtime", "precision", "threads") if n != name]
    before = {tuple(p[n] for n in names): p for p in points if p[name] == usual}
    after = [p for p in points if p[name] != usual]
    return [(before[key], p) for p in after if (key := tuple(p[n] for n in names)) in before]


def _gain(pairs: Sequence[tuple[Point, Point]]) -> dict[str, Any]:
    """What the second of each pair gains over the first."""
    if not pairs:
        return {"points": 0}
    ratios = sorted(ratio(whole, other) for whole, other in pairs)
    alike = [
        ratio(whole, other) for whole, other in pairs if other["accuracy"] >= whole["accuracy"] - AS_ACCURATE
    ]
    return {
        "points": len(ratios),
        "speed_up": list(ratios[len(ratios) // 2]),  # a point's own, so that the interval is one
        "least": list(ratios[0]),
        "most": list(ratios[-1]),
        "surely_faster": sum(low > SURELY for _, low, _ in ratios),
        "surely_slower": sum(high < 1 / SURELY for _, _, high in ratios),
        "as_accurate": len(alike),
        "most_as_accurate": list(max(alike)) if alike else None,
        "accuracy_change": statistics.median(b["accuracy"] - a["accuracy"] for a, b in pairs),
        "size": _middle(pairs, "size_bytes"),
        "stored": _middle(pairs, "stored_bytes"),
        "memory": _middle(pairs, "peak_bytes"),
    }


def _middle(pairs: Sequence[tuple[Point, Point]], figure: str) -> float | None:
    """The median of what is left of a figure."""
    known = [b[figure] / a[figure] for a, b in pairs if a[figure]]
    return statistics.median(known) if known else None


def _verdict(gains: Mapping[str, Any]) -> str:
    """Whether the published finding holds here: confirmed, refuted, confirmed in part, or not judged."""
    weights = [gains[kind] for kind in SHARES_OF_WEIGHTS if kind in gains]
    if not weights or "channels" not in gains:
        return "not judged"
    rarely = sum(g["surely_faster"] for g in weights) < RARELY * sum(g["points"] for g in weights)
    mostly = gains["channels"]["surely_faster"] >= MOSTLY * gains["channels"]["points"]
    return {2: "confirmed", 1: "confirmed in part", 0: "refuted"}[rarely + mostly]


_NAMES = {
    "weights": "Weight pruning over the whole network",
    "layers": "Weight pruning layer by layer",
    "pattern": "Weight pruning by patterns n:m",
    "channels": "Channel pruning",
    "both": "Channel and weight pruning together",
    "int8": "Int8 in float32's place",
}


def _paragraphs(gains: Mapping[str, Any], verdict: str, fewest: int) -> Iterator[str]:
    """The verdict, and a paragraph for each gain."""
    if verdict != "not judged":
        yield (
            "The published finding, that weight pruning rarely pays in time and channel pruning mostly does "
            f"(Turner et al. 2018), is {verdict} on this machine: surely faster, by "
            f"{100 * (SURELY - 1):.0f} % or more, are {_counted(gains, SHARES_OF_WEIGHTS)} points of weight "
            f"pruning and {_counted(gains, ('channels',))} of channel pruning."
        )
    for name, gain in gains.items():
        words = [_speed(_NAMES.get(name, f"More threads than {fewest}"), gain)]
        if name != "threads":
            words += [_savings(gain), _at_equal_accuracy(gain)]
        yield " ".join(words)


def _speed(who: str, gain: Mapping[str, Any]) -> str:
    return (
        f"{who} made networks {_times(gain['speed_up'])} as fast in the median of {gain['points']} points, "
        f"from {_times(gain['least'])} to {_times(gain['most'])}: surely faster in "
        f"{gain['surely_faster']}, surely slower in {gain['surely_slower']}."
    )


def _savings(gain: Mapping[str, Any]) -> str:
    return (
        f"In the median files have {_share(gain['size'])} of the bytes as they are and "
        f"{_share(gain['stored'])} stored (gzip), they take {_share(gain['memory'])} of the memory, and test "
        f"accuracy changes by {100 * gain['accuracy_change']:+.1f} points."
    )


def _at_equal_accuracy(gain: Mapping[str, Any]) -> str:
    best, within = gain["most_as_accurate"], f"within {100 * AS_ACCURATE:g} point of the accuracy"
    return f"At most, {within}, it is {_times(best)} as fast." if best else f"No point is {within}."


def _doubts(points: Sequence[Point]) -> Iterator[str]:
    """What must be known beside the figures."""
    wide = [p for p in points if p["wide"]]
    if wide:
        threads = ", ".join(str(t) for t in sorted({p["threads"] for p in wide}))
        yield (
            f"The machine was restless: the latencies of {len(wide)} of {len(points)} points, of threads "
            f"{threads}, stayed wider than 1 %."
        )


def _times(found: Sequence[float]) -> str:
    return "{:.2f} times ({:.2f} to {:.2f})".format(*found)


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{100 * value:.0f} %"


def _counted(gains: Mapping[str, Any], kinds: Sequence[str]) -> str:
    known = [gains[kind] for kind in kinds if kind in gains]
    return f"{sum(g['surely_faster'] for g in known)} of {sum(g['points'] for g in known)}"
