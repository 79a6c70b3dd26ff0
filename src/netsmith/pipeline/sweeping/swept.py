"""The answer of a sweep, put together from what its journal knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import netsmith
from netsmith.devices.measure import Latency
from netsmith.journal import Journal
from netsmith.pipeline.base import Base
from netsmith.pipeline.sweeping.finding import finding, fronts
from netsmith.pipeline.sweeping.grid import KINDS, File, Grid, Variant
from netsmith.pipeline.work import Work

Timed = Mapping[tuple[str, int], Mapping[str, Any]]
"""Of each runtime with so many threads, the latencies of its files by their names."""


def answer(work: Work, grid: Grid, base: Base, timed: Timed) -> dict[str, Any]:
    """Return everything that stands in ``sweep.json``, of a sweep in whose journal all of ``grid`` is."""
    journal = work.journal
    points = list(_points(journal, grid, timed))
    return {
        "netsmith": netsmith.__version__,
        "base": work.settings.base,
        "data": work.settings.data,
        "base_accuracy": base.figures["accuracy"],
        "test_images": journal.all("data")[-1]["test"],
        "grid": grid.to_dict(),
        "kinds": {kind: KINDS[kind] for kind in grid.kinds},
        "networks": [
            {"network": v.name, "kind": v.kind, "strength": v.strength, **_network(journal, v)}
            for v in grid.variants
        ],
        "devices": {record["device"]: record["fingerprint"] for record in journal.all("device")},
        "points": points,
        "fronts": fronts(points),
        "finding": finding(points),
        "warnings": [record["text"] for record in journal.all("warning")],
    }


def _network(journal: Journal, variant: Variant) -> dict[str, Any]:
    known = journal.last("network", network=variant.name)
    assert known is not None
    return {name: value for name, value in known.items() if name not in ("event", "time", "network")}


def _points(journal: Journal, grid: Grid, timed: Timed) -> Iterator[dict[str, Any]]:
    for threads, file in product(grid.threads, grid.files):
        yield {
            "network": file.variant.name,
            "kind": file.variant.kind,
            "strength": file.variant.strength,
            "runtime": file.runtime,
            "precision": file.precision,
            "threads": threads,
            **_figures(journal, file, threads, timed[file.runtime, threads]),
        }


def _figures(journal: Journal, file: File, threads: int, timed: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a point; at least the reason why it is no more."""
    network, known = _network(journal, file.variant), journal.last("file", file=file.name)
    if known is None or known["reason"]:
        return {"reason": network["reason"] if known is None else known["reason"]}
    used = journal.last("memory", file=file.name, threads=threads)
    assert used is not None
    if used["reason"]:
        return {"reason": used["reason"]}
    latency = Latency.from_dict(timed[file.name])
    return {
        "reason": "",
        "file": known["path"],
        "accuracy": known["accuracy"],
        "latency_ms": latency.median_ms,
        "latency_ms_interval": list(latency.interval_ms),
        "rounds": latency.rounds,
        "wide": latency.wide,
        "peak_bytes": used["peak_bytes"],
        "load_ms": used["load_ms"],
        "size_bytes": known["size_bytes"],
        "stored_bytes": known["stored_bytes"],
        "macs": network["macs"],
        "params": network["params"],
        "zeros": network["zeros"],
    }
