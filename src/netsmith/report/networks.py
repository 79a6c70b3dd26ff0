"""The networks of a design side by side: the designed one, the baselines, the candidates."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netsmith import pareto
from netsmith.arch import Arch
from netsmith.budget import read_quantity
from netsmith.errors import ArchError, SettingsError
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
    """An arch judged on the validation split with the supernet's weights; ``drawn`` at random or derived."""

    name: str
    accuracy: float | None
    latency_ms: float | None
    predicted_ms: float | None
    reason: str
    drawn: str = "derived"
    on_front: bool = False

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
    found += [(_key(data)[:8], "pick", data) for data in folder.picks]
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
    """The latency that ``design.toml`` asks for, as a number or with a unit."""
    try:
        settings = tomllib.loads(folder.settings)
    except tomllib.TOMLDecodeError:
        return None
    asked = settings.get("latency")
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
    """Return the archs that were judged: those of the journal, else those of the result's front."""
    front = {_key(item): item for item in folder.result.get("front", [])}
    trials: dict[str, dict[str, Any]] = {}
    for event in folder.all("trial"):
        trial = event.get("trial")
        if isinstance(trial, dict) and isinstance(trial.get("figures"), dict):
            known = trials.setdefault(_key(trial), {"figures": {}, "stage": event.get("stage")})
            known["figures"] |= trial["figures"]
            known["reason"] = trial.get("reason")
    if not trials:
        return _sorted(
            Candidate(
                name=key[:8],
                accuracy=number(item.get("validation_accuracy")),
                latency_ms=number(item.get("latency_ms")),
                predicted_ms=number(item.get("latency_ms_predicted")),
                reason=str(item.get("reason") or ""),
                on_front=True,
            )
            for key, item in front.items()
        )
    return _sorted(_from_trial(key, trial, key in front) for key, trial in trials.items())


def _key(item: Mapping[str, Any]) -> str:
    """The digest of the arch: the trials of one arch are one candidate."""
    try:
        return Arch.from_dict(item.get("arch") or {}).digest
    except (ArchError, AttributeError):
        return str(item.get("digest") or repr(item))


def _from_trial(key: str, trial: Mapping[str, Any], on_front: bool) -> Candidate:
    figures = trial["figures"]
    error = number(figures.get("error"))
    return Candidate(
        name=key[:8],
        accuracy=None if error is None else 1 - error,
        latency_ms=number(figures.get("latency_ms")),
        predicted_ms=number(figures.get("latency_ms_predicted")),
        reason=str(trial.get("reason") or ""),
        drawn="at random" if trial["stage"] == "random" else "derived",
        on_front=on_front,
    )


def _sorted(found: Iterable[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda c: (c.any_ms is None, c.any_ms or 0.0, c.name))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the network of one device does on another: latency in milliseconds, accuracy 0..1."""

    device: str
    latency_ms: float | None
    accuracy: float | None
    fastest: bool
    """Whether no network of the matrix is faster on this device."""


def matrix(folder: Folder) -> dict[str, list[Elsewhere]]:
    """Return, by the device that each network was designed for, what it does on every device."""
    cells = [(str(c.get("network")), str(c.get("device")), c) for c in folder.result.get("matrix", [])]
    least: dict[str, float] = {}
    for _, device, cell in cells:
        found = number(cell.get("latency_ms"))
        if found is not None:
            least[device] = min(found, least.get(device, found))
    rows: dict[str, list[Elsewhere]] = {}
    for network, device, cell in cells:
        latency_ms = number(cell.get("latency_ms"))
        accuracy = number(cell.get("accuracy_exported"))
        fastest = latency_ms is not None and latency_ms == least[device]
        rows.setdefault(network, []).append(Elsewhere(device, latency_ms, accuracy, fastest))
    return rows
