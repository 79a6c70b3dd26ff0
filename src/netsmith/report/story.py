"""What the page says in words: where the design stands, what it kept, what to know about its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netsmith.report import text
from netsmith.report.folder import Folder, number
from netsmith.report.networks import latency_limit

_STAGES = {
    "started": "it had only started",
    "before": "it was designing the network before compression, whose page is in its folder 'before'",
    "designed": "the network before compression was ready",
    "data": "the images had been read",
    "reach": "it was finding what the space can reach on the device",
    "space": "the space was chosen; the device's latency table came next",
    "profile": "the latency table was ready; the search came next",
    "search_epoch": "it was searching",
    "trial": "it was measuring what the search had found",
    "train_epoch": "it was training",
    "dispatch": "it had measured what choosing a path takes",
    "instance_epoch": "it was training along images' own paths",
    "kept": "it was measuring what it had kept of the search",
    "verified": "it had measured the trained network",
    "measured": "it was measuring the trained networks",
}
_LIMIT_NAMES = {
    "latency_ms": "latency", "peak_bytes": "memory", "activation_bytes": "activations",
    "size_bytes": "file size", "macs": "MACs", "params": "parameters",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the design in one line; ``kind`` is ``met``, ``missed``, ``free`` or ``unfinished``."""

    kind: str
    words: str
    headline: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Measured latency against the budget, as percentages of the gauge's length."""

    value: float
    low: float
    high: float
    limit: float | None


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the budget and what was measured against it."""

    name: str
    kind: str
    limit: float
    value: float | None

    @property
    def kept(self) -> bool | None:
        """Whether the limit is kept; None where nothing was measured."""
        return None if self.value is None else self.value <= self.limit


def verdict(folder: Folder) -> Verdict:
    """Say whether the design has ended and whether its budget is met."""
    result = folder.result
    reasons = tuple(str(reason) for reason in result.get("reasons", []))
    if not result:
        return Verdict("unfinished", "Not finished", "This design has not ended", (_stage(folder),))
    accuracy, latency = number(result.get("accuracy")), number(result.get("latency_ms"))
    if accuracy is not None and latency is not None:
        headline = f"{text.percent(accuracy)} right, in {text.milliseconds(latency)}"
    else:
        headline = "This design ended without a measured network"
    if result.get("budget_met") is True:
        return Verdict("met" if limits(folder) else "free", "Budget met", headline, reasons)
    if result.get("budget_met") is False:
        return Verdict("missed", "Budget not met", headline, reasons)
    return Verdict("free", "No budget was recorded", headline, reasons)


def latency_is(folder: Folder) -> str:
    """How latencies are known: "measured" on the device, or "looked up" in a table in its place."""
    return "looked up" if folder.result.get("latency_is") == "looked up" else "measured"


def _stage(folder: Folder) -> str:
    last = next((e for e in reversed(folder.events) if e["event"] in _STAGES), None)
    words = _STAGES[last["event"] if last else "started"]
    if last and isinstance(last.get("epoch"), int):
        name = f" '{last['name']}'" if isinstance(last.get("name"), str) else ""
        words += f"{name}, epoch {last['epoch'] + 1}"
    return f"When this page was written, {words}. Run the same command again: it goes on where it was."


def limits(folder: Folder) -> list[Limit]:
    """Return the limits of the budget with the figures that they hold."""
    budget = dict(folder.result.get("budget", {}))
    if (limit := latency_limit(folder)) is not None:
        budget["latency_ms"] = limit
    return [
        Limit(words, text.BUDGET_FORMATS[name], limit, number(folder.result.get(name)))
        for name, words in _LIMIT_NAMES.items()
        if (limit := number(budget.get(name))) is not None
    ]


def gauge(folder: Folder) -> Gauge | None:
    """Place the measured latency, its spread and the budget on one bar."""
    value, limit = number(folder.result.get("latency_ms")), latency_limit(folder)
    if value is None or value <= 0:
        return None
    spread = folder.result.get("latency_ms_spread", {})
    low, high = number(spread.get("low")) or value, number(spread.get("high")) or value
    full = 1.15 * max(value, high, limit or 0.0)
    at = 100 / full
    mark = None if limit is None else round(limit * at, 3)
    return Gauge(round(value * at, 3), round(low * at, 3), round(high * at, 3), mark)


def warnings(folder: Folder) -> list[str]:
    """Return every warning once, in the order in which they came."""
    said = [str(e.get("text", "")) for e in folder.all("warning")]
    said += [str(item) for item in folder.result.get("warnings", [])]
    return [item for item in dict.fromkeys(said) if item]


def device(folder: Folder) -> list[tuple[str, str]]:
    """Return the device's fingerprint, the best known fields first."""
    known = folder.result.get("device_fingerprint") or folder.last("bench").get("fingerprint")
    fingerprint: Mapping[str, Any] = known or {}
    order = ("processor", "runtime", "version", "threads", "precision", "os")
    names = [n for n in order if n in fingerprint] + sorted(set(fingerprint) - set(order))
    return [(name.replace("_", " "), str(fingerprint[name])) for name in names]


def mistakes(folder: Folder, most: int = 12) -> list[tuple[str, str, int]]:
    """Return the pairs of labels most often taken for each other: true, predicted, test images."""
    rows, names = folder.result.get("confusion", []), label_names(folder)
    found = [
        (_label(names, i), _label(names, j), int(images))
        for i, row in enumerate(rows if isinstance(rows, list) else [])
        for j, cell in enumerate(row if isinstance(row, list) else [])
        if i != j and (images := number(cell)) is not None and images > 0
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))[:most]


def label_names(folder: Folder) -> list[str]:
    """Return the names of the labels, in the order of the network's outputs."""
    said = (folder.result, folder.arch, folder.last("data"))
    names: list[Any] = next((each["label_names"] for each in said if each.get("label_names")), [])
    return [str(name) for name in names]


def recall(folder: Folder) -> list[tuple[str, int, float | None]]:
    """Return for each label how many test images it has and the share of them found, 0..1."""
    rows, names = folder.result.get("confusion", []), label_names(folder)
    found = []
    for i, row in enumerate(rows if isinstance(rows, list) else []):
        cells = [number(cell) or 0 for cell in row] if isinstance(row, list) else []
        total = sum(cells)
        right = cells[i] / total if i < len(cells) and total else None
        found.append((_label(names, i), int(total), right))
    return found


def _label(names: list[str], place: int) -> str:
    return names[place] if place < len(names) else f"label {place}"
