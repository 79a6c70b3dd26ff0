"""The trials of a design in a database: kept by Optuna, shared by workers, shown by optuna-dashboard.

A design is a study there and a trial a trial, with the arch's decisions as parameters. Optuna lets two
workers evaluate one arch, and its own signs of life (``heartbeat_interval``) miss a worker that was killed
before its first and are read by ``optimize`` alone. Here an arch belongs to the trial of the lowest number,
and a worker is gone when its process is, or when no sign of life came for a while by the clock of who waits.

COMPLETE is a trial that counts, FAIL one that failed for its ``reason``, PRUNED one that was given up, by its
worker or for it, and is as if it had never been.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from netsmith.arch import Arch
from netsmith.errors import ArchError, StoreError
from netsmith.pipeline.alive import is_dead, this_worker
from netsmith.pipeline.searching.database import Row, Study
from netsmith.trial import Trial

BEAT_S = 10.0
GRACE_S = 60.0
MAX_FIGURES = 1000
MAX_SAMPLES = 1000
MAX_REASON = 10_000
_FORMAT = 1


@dataclass(frozen=True)
class Contents:
    """What a store holds trials of; a store of other contents is refused.

    ``decisions`` names every decision of an arch and its options, in the order of :attr:`Arch.choices`: what
    the dashboard shows. ``objectives`` are figures, all minimised. ``settings`` is a digest of whatever else
    a trial's figures depend on. Raises :class:`StoreError` where names are missing or not distinct.
    """

    space: str
    decisions: Mapping[str, Sequence[str]]
    objectives: tuple[str, ...]
    settings: str

    def __post_init__(self) -> None:
        for names in (self.objectives, *self.decisions.values()):
            if not names or len(set(names)) != len(names):
                raise StoreError(
                    f"objectives, and options of a decision, are distinct names; got {list(names)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return what is compared, as JSON-ready values."""
        return {
            "format": _FORMAT,
            "space": self.space,
            "objectives": list(self.objectives),
            "settings": self.settings,
            "decisions": [[name, list(options)] for name, options in self.decisions.items()],
        }


class Store:
    """The trials of one design, in a database that several workers may have open at once."""

    def __init__(self, study: Study, contents: Contents, beat_s: float, grace_s: float) -> None:
        self._study, self._contents = study, contents
        self._beat_s, self._grace_s = beat_s, grace_s
        self._beats: dict[int, tuple[object, float]] = {}

    @classmethod
    def open(
        cls,
        address: str | Path,
        name: str,
        contents: Contents,
        *,
        beat_s: float = BEAT_S,
        grace_s: float = GRACE_S,
    ) -> Store:
        """Open the design ``name`` at ``address``, or begin it there.

        The address is the path of an SQLite file (on a disk of this machine: locks of network drives
        are not to be trusted), or one with ``://`` that SQLAlchemy takes, such as
        ``postgresql://user@host/name``. Workers give a sign of life every ``beat_s`` and are taken for gone
        after ``grace_s`` without one. Raises :class:`StoreError`, also where the study there is another, and
        :class:`netsmith.errors.MissingExtraError` without Optuna.
        """
        study = Study.open(address, name, contents.objectives)
        _compare(study.described("netsmith", contents.to_dict()), contents, study)
        return cls(study, contents, beat_s, grace_s)

    def trials(self) -> list[Trial]:
        """Return what is finished, in order of number. Raises :class:`StoreError` where one is damaged."""
        return [self._trial(row) for row in self._study.rows() if _counts(row)]

    def claim(self, arch: Arch) -> Claim | None:
        """Take ``arch`` to evaluate it, or return None: it is finished, or another worker has it.

        Nothing is claimed for long by a worker that is gone: ask again later for what somebody has.
        """
        self._check(arch)
        if self._owner(arch, math.inf) is not None:
            return None
        number, key = self._study.begin(
            self._contents.decisions,
            arch.choices,
            {"arch": arch.to_dict(), "digest": arch.digest, "worker": this_worker(), "beat": 0},
        )
        owner = self._owner(arch, number)
        if owner is not None:
            self._study.end(key, "PRUNED", {"dropped": f"trial {owner} has this arch"})
            return None
        return Claim(self._study, key, arch, self._contents.objectives, self._beat_s)

    def close(self) -> None:
        """Close every connection."""
        self._study.close()

    def _owner(self, arch: Arch, below: float) -> int | None:
        """Return the number, under ``below``, of the trial that has this arch; drop what the dead have."""
        for row in self._study.rows():
            if row.number >= below or row.attributes.get("digest") != arch.digest:
                continue
            running = row.state == "RUNNING"
            if running and self._gone(row):
                if self._study.end(row.key, "PRUNED", {"dropped": "its worker is gone"}):
                    continue
                return row.number  # it has just ended by itself
            if running or _counts(row):
                return row.number
        return None

    def _gone(self, row: Row) -> bool:
        """Whether the worker's process is, or it gave no sign of life for as long as we watched."""
        if is_dead(row.attributes.get("worker")):
            return True
        beat, now = row.attributes.get("beat"), time.monotonic()
        last, since = self._beats.get(row.key, (None, now))
        if last != beat:
            since = now
        self._beats[row.key] = beat, since
        return now - since > self._grace_s

    def _trial(self, row: Row) -> Trial:
        """Return a finished trial, checked."""
        try:
            trial = Trial.from_dict({"reason": "", **row.attributes})
            self._check(trial.arch)
            _check_figures(trial.figures)
            if trial.valid != (row.state == "COMPLETE") or len(trial.reason) > MAX_REASON:
                raise ArchError(f"it is {row.state} for the reason {trial.reason!r:.200}")
            if trial.valid and [trial.figures[name] for name in self._contents.objectives] != row.values:
                raise ArchError(f"its values {row.values} are not its figures {dict(trial.figures)!r:.200}")
        except (ArchError, KeyError) as error:
            raise StoreError(
                f"trial {row.number} of {self._study} is damaged, or was not written by Netsmith: "
                f"{error!s:.300}; begin again under another name"
            ) from None
        return trial

    def _check(self, arch: Arch) -> None:
        contents = self._contents
        if arch.space != contents.space:
            raise ArchError(f"the arch is of space '{arch.space}'; the store is of '{contents.space}'")
        sizes = [len(options) for options in contents.decisions.values()]
        if len(sizes) != len(arch.choices) or not all(
            0 <= choice < size for choice, size in zip(arch.choices, sizes, strict=True)
        ):
            raise ArchError(f"{len(sizes)} decisions of {sizes} options; got {arch.choices!r:.200}")


class Claim:
    """One worker's right to evaluate an arch, upheld by a thread; leaving a ``with`` early gives it up."""

    def __init__(self, study: Study, key: int, arch: Arch, objectives: Sequence[str], beat_s: float) -> None:
        self.arch = arch
        self._study, self._key, self._objectives, self._beat_s = study, key, objectives, beat_s
        self._began, self._over = time.monotonic(), threading.Event()
        threading.Thread(target=self._beat, name=f"trial-{key}", daemon=True).start()

    def finish(self, trial: Trial, samples: Mapping[str, Sequence[float]] | None = None) -> bool:
        """Write what was found, and ``samples`` of each measured figure (thinned to ``MAX_SAMPLES``).

        Returns False where another worker has taken the arch meanwhile, as after a sleep of this machine:
        the trial then does not count. Raises :class:`StoreError` where figures are not numbers.
        """
        missing = [name for name in self._objectives if trial.valid and name not in trial.figures]
        if missing or trial.arch != self.arch:
            raise StoreError(
                f"a trial of {self.arch} with {list(self._objectives)}, or a reason; got {trial!r:.300}"
            )
        try:
            figures = {name: float(value) for name, value in trial.figures.items()}  # those of NumPy too
            _check_figures(figures)
        except (ArchError, TypeError, ValueError) as error:
            raise StoreError(f"{error}; leave out what has no number, and give a reason") from None
        self._over.set()
        found: dict[str, Any] = {
            "figures": figures,
            "seconds": round(time.monotonic() - self._began, 3),
            **{f"samples {name}": _thinned(values) for name, values in (samples or {}).items()},
        }
        if not trial.valid:
            return self._study.end(self._key, "FAIL", {**found, "reason": trial.reason[:MAX_REASON]})
        values = [figures[name] for name in self._objectives]
        return self._study.end(self._key, "COMPLETE", found, values)

    def release(self) -> None:
        """Give the arch up: it is free for the next who asks."""
        if not self._over.is_set():
            self._over.set()
            self._study.end(self._key, "PRUNED", {"dropped": "given up"})

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        beat = 1
        while not self._over.wait(self._beat_s) and self._study.beat(self._key, beat):
            beat += 1


def _counts(row: Row) -> bool:
    """Whether a trial is finished: it has values, or failed for a reason of its own."""
    return row.state == "COMPLETE" or (row.state == "FAIL" and bool(row.attributes.get("reason")))


def _check_figures(figures: Mapping[str, float]) -> None:
    """Raise :class:`ArchError` unless they are a bounded number of finite numbers."""
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in figures.values())
    if len(figures) > MAX_FIGURES or not numbers:
        raise ArchError(
            f"at most {MAX_FIGURES} figures, each a finite number; got {len(figures)}: {figures!r:.200}"
        )


def _thinned(values: Sequence[float]) -> list[float]:
    """Return the values, or ``MAX_SAMPLES`` of them at equal distances."""
    step = max(1, math.ceil(len(values) / MAX_SAMPLES))
    return [float(value) for value in values[::step]]


def _compare(found: object, contents: Contents, study: Study) -> None:
    """Raise :class:`StoreError` that names the first difference."""
    if not isinstance(found, dict):
        raise StoreError(f"{study} was not begun by Netsmith; give another name")
    for key, wanted in contents.to_dict().items():
        if found.get(key) != wanted:
            raise StoreError(
                f"{study} is another: its {key} is {found.get(key)!r:.200}, asked for was {wanted!r:.200}; "
                "give another name, or another address"
            )
    if study.directions() != ["MINIMIZE"] * len(contents.objectives):
        raise StoreError(f"{study} has directions {study.directions()}; all are to be MINIMIZE")
