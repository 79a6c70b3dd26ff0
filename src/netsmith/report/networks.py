"""The networks of a design side by side: the designed one, the baselines, the candidates."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netsmith import pareto
from netsmith.budget import read_quantity
from netsmith.errors import SettingsError
from netsmith.report.folder import Folder, number


@dataclass(frozen=True, slots=True)
class Network:
    """One trained network; every figure is None where it was not recorded.

    ``accuracy`` and ``exported`` are on the test split, of the module and of the exported file;
    ``latency_ms`` is the measured median, ``low_ms`` to ``high_ms`` the spread of its samples.
    """

    name: str
    kind: str
    accuracy: float | None
    exported: float | None
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    predicted_ms: float | None
    size_bytes: float | None
    peak_bytes: float | None
    params: float | None
    macs: float | None
    on_front: bool = False
    within: bool | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arch that the search derived, judged on the validation split with the supernet's weights."""

    name: str
    accuracy: float | None
    latency_ms: float | None
    predicted_ms: float | None
    reason: str

    @property
    def measured(self) -> bool:
        """Whether its latency was measured, not only predicted."""
        return self.latency_ms is not None

    @property
    def any_ms(self) -> float | None:
        """The measured latency, else the predicted one."""
        return self.latency_ms if self.latency_ms is not None else self.predicted_ms


def trained(folder: Folder) -> list[Network]:
    """Return the designed network and the baselines, fastest first; the front among them is marked."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    if folder.result:
        found.append(("Netsmith", "design", folder.result))
    for name, data in folder.result.get("baselines", {}).items():
        found.append((name, str(data.get("kind", name)), data))
    limit = latency_limit(folder)
    placed = [i for i, (_, _, d) in enumerate(found) if _point(d) is not None]
    points = [point for _, _, d in found if (point := _point(d)) is not None]
    best = {placed[i] for i in pareto.front(points)}
    networks = [_network(*item, i in best, limit) for i, item in enumerate(found)]
    return sorted(networks, key=lambda n: (n.latency_ms is None, n.latency_ms or 0.0, n.name))


def latency_limit(folder: Folder) -> float | None:
    """Return the latency budget in milliseconds, if there is one."""
    limit = number(folder.result.get("latency_budget_ms"))
    if limit is None:
        limit = number(folder.result.get("budget", {}).get("latency_ms"))
    return limit if folder.result else _asked_limit(folder)


def _asked_limit(folder: Folder) -> float | None:
    """The latency that ``design.toml`` asks for, at its top or in its table ``budget``."""
    try:
        settings = tomllib.loads(folder.settings)
    except tomllib.TOMLDecodeError:
        return None
    table = settings.get("budget")
    asked = settings.get("latency_ms", table.get("latency_ms") if isinstance(table, dict) else None)
    try:
        return None if asked is None else read_quantity(asked, "latency_ms")
    except SettingsError:
        return None


def _point(data: Mapping[str, Any]) -> tuple[float, float] | None:
    latency, accuracy = number(data.get("latency_ms")), number(data.get("accuracy"))
    return None if latency is None or accuracy is None else (latency, -accuracy)


def _network(name: str, kind: str, data: Mapping[str, Any], on_front: bool, limit: float | None) -> Network:
    spread = data.get("latency_ms_spread", {})
    latency = number(data.get("latency_ms"))
    return Network(
        name=name,
        kind=kind,
        accuracy=number(data.get("accuracy")),
        exported=number(data.get("accuracy_exported")),
        latency_ms=latency,
        low_ms=number(spread.get("low")),
        high_ms=number(spread.get("high")),
        predicted_ms=number(data.get("latency_ms_predicted")),
        size_bytes=number(data.get("size_bytes")),
        peak_bytes=number(data.get("peak_bytes")),
        params=number(data.get("params")),
        macs=number(data.get("macs")),
        on_front=on_front,
        within=None if limit is None or latency is None else latency <= limit,
    )


def candidates(folder: Folder) -> list[Candidate]:
    """Return the archs that the search derived: those of the result, else those of the journal."""
    if folder.result.get("front"):
        return _sorted(
            Candidate(
                name=str(item.get("name") or item.get("digest") or f"candidate {i}"),
                accuracy=number(item.get("validation_accuracy")),
                latency_ms=number(item.get("latency_ms")),
                predicted_ms=number(item.get("latency_ms_predicted")),
                reason=str(item.get("reason") or ""),
            )
            for i, item in enumerate(folder.result["front"], 1)
        )
    latest: dict[str, Mapping[str, Any]] = {}
    for event in folder.all("trial"):
        trial = event.get("trial")
        if isinstance(trial, dict) and isinstance(trial.get("figures"), dict):
            known = latest.get(repr(trial.get("arch")), {})
            figures = {**known.get("figures", {}), **trial["figures"]}
            latest[repr(trial.get("arch"))] = {**trial, "figures": figures}
    return _sorted(_from_trial(i, trial) for i, trial in enumerate(latest.values(), 1))


def _from_trial(place: int, trial: Mapping[str, Any]) -> Candidate:
    figures = trial["figures"]
    error = number(figures.get("error"))
    return Candidate(
        name=f"candidate {place}",
        accuracy=None if error is None else 1 - error,
        latency_ms=number(figures.get("latency_ms")),
        predicted_ms=number(figures.get("latency_ms_predicted")),
        reason=str(trial.get("reason") or ""),
    )


def _sorted(found: Iterable[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda c: (c.any_ms is None, c.any_ms or 0.0, c.name))
