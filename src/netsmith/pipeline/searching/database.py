"""What Optuna keeps: a study in a database, its trials as plain rows. Nothing else here knows Optuna."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from netsmith.errors import MissingExtraError, StoreError

MAX_BYTES = 1 << 30  # of an SQLite file
_LOCK_S = 60.0
_OPENINGS = 10
# What Optuna and SQLAlchemy let through of rows that are not as they wrote them.
_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError)


@dataclass(frozen=True)
class Row:
    """A trial as the database has it; ``key`` is its own among all studies, ``state`` as Optuna names it."""

    number: int
    key: int
    state: str
    values: list[float] | None
    attributes: Mapping[str, Any]


class Study:
    """A study whose objectives are all minimised, safe to have open in several processes and threads."""

    def __init__(self, storage: Any, study: Any, shown: str) -> None:
        self._storage, self._study, self._shown = storage, study, shown

    @classmethod
    def open(cls, address: str | Path, name: str, objectives: Sequence[str]) -> Study:
        """Open the study ``name`` or begin it. Raises :class:`StoreError`, :class:`MissingExtraError`."""
        storage, shown = _connected(address)
        import optuna

        with _told(shown):
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["minimize"] * len(objectives),
                load_if_exists=True,
            )
            if study.metric_names is None and len(study.directions) == len(objectives):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that names of objectives are experimental
                    study.set_metric_names(list(objectives))
        return cls(storage, study, shown)

    def __str__(self) -> str:
        return f"study '{self._study.study_name}' at {self._shown}"

    def described(self, key: str, description: Mapping[str, Any]) -> object:
        """Return what describes the study under ``key``; of an empty one, after writing ``description``."""
        with _told(str(self)):
            if key not in self._study.user_attrs and not self._study.get_trials(deepcopy=False):
                self._study.set_user_attr(key, dict(description))
            return self._study.user_attrs.get(key)

    def directions(self) -> list[str]:
        """Return MINIMIZE or MAXIMIZE of each objective."""
        with _told(str(self)):
            return [direction.name for direction in self._study.directions]

    def rows(self) -> list[Row]:
        """Return all trials in order of number, as they are now; those that ended are read once."""
        with _told(str(self)):
            found = self._study.get_trials(deepcopy=False)
        if [t.number for t in found] != list(range(len(found))):
            raise StoreError(f"{self} is damaged: its trials are not numbered 0, 1, 2 and so on")
        return [Row(t.number, t._trial_id, t.state.name, t.values, t.user_attrs) for t in found]

    def begin(
        self,
        decisions: Mapping[str, Sequence[str]],
        choices: Sequence[int],
        attributes: Mapping[str, Any],
    ) -> tuple[int, int]:
        """Add a running trial, whole in one transaction; return its number and key.

        Numbers are given out under a lock of the study: who has one sees every trial of a lower one.
        """
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import TrialState, create_trial

        taken = zip(decisions.items(), choices, strict=True)
        template = create_trial(
            state=TrialState.RUNNING,
            params={name: options[choice] for (name, options), choice in taken},
            distributions={name: CategoricalDistribution(options) for name, options in decisions.items()},
            user_attrs=dict(attributes),
        )
        with _told(str(self)):
            key = self._storage.create_new_trial(self._study._study_id, template)
            return int(self._storage.get_trial(key).number), int(key)

    def beat(self, key: int, beat: int) -> bool:
        """Write a sign of life; False where the trial has ended, True also where the database is away."""
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

        try:
            self._storage.set_trial_user_attr(key, "beat", beat)
        except UpdateFinishedTrialError:
            return False
        except StorageInternalError:
            return True
        return True

    def end(
        self,
        key: int,
        state: Literal["COMPLETE", "FAIL", "PRUNED"],
        attributes: Mapping[str, Any],
        values: Sequence[float] | None = None,
    ) -> bool:
        """End a running trial, state and values in the last write; False where it has ended already."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with _told(str(self)):
            try:
                for name, value in attributes.items():
                    self._storage.set_trial_user_attr(key, name, value)
                return bool(self._storage.set_trial_state_values(key, TrialState[state], values))
            except UpdateFinishedTrialError:
                return False

    def close(self) -> None:
        """Close every connection."""
        self._storage.engine.dispose()


def check_address(address: str | Path) -> None:
    """Raise what :meth:`Study.open` would of an address that cannot be used, before any work is done."""
    _connected(address)[0].engine.dispose()


def _connected(address: str | Path) -> tuple[Any, str]:
    """Return Optuna's storage at an address, and the address as it may be shown."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "optuna", "a store of trials") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url, shown = _url(address)
    with _told(shown):
        return _storage(url), shown


def _url(address: str | Path) -> tuple[str, str]:
    """Return the address as Optuna takes it, and as it may be shown, without its password."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if isinstance(address, str) and "://" in address:
        try:
            url = make_url(address)
        except ArgumentError:
            raise StoreError("a store's address is a path, or like postgresql://user@host/name") from None
    else:
        url = URL.create("sqlite", database=str(Path(address).absolute()))
    if url.get_backend_name() == "sqlite" and url.database and Path(url.database).exists():
        size = Path(url.database).stat().st_size
        if size > MAX_BYTES:
            raise StoreError(f"{url.database} has {size} bytes; at most {MAX_BYTES} are read")
    whole = url.render_as_string(hide_password=False)
    return whole.replace("{", "{{").replace("}", "}}"), url.database or url.render_as_string()


def _storage(url: str) -> Any:
    """Return Optuna's storage; in an SQLite file every transaction takes the write lock when it begins.

    SQLite knows no lock of rows, by which Optuna checks a trial's state before it changes it.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    lite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": _LOCK_S}} if lite else {"pool_pre_ping": True}
    for left in reversed(range(_OPENINGS)):
        try:
            storage = RDBStorage(url, engine_kwargs=dict(options))
            break
        except SQLAlchemyError as error:
            made_meanwhile = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not (left and made_meanwhile):  # by another worker, at this moment
                raise
            time.sleep(0.2)
    if lite:
        storage.engine.dispose()
        event.listen(storage.engine, "connect", _leave_transactions_to_us)
        event.listen(storage.engine, "begin", _begin_immediately)
    return storage


def _leave_transactions_to_us(connection: Any, record: object) -> None:
    connection.isolation_level = None


def _begin_immediately(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what Optuna, SQLAlchemy and damaged rows raise into a :class:`StoreError`."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise StoreError(
            f"{what} needs a driver that is not installed: {error.__cause__ or error}"
        ) from error
    except (OptunaError, SQLAlchemyError) as error:
        raise StoreError(f"{what} cannot be used: {error.__cause__ or error!s:.300}") from error
    except _DAMAGED as error:
        raise StoreError(f"{what} holds what Netsmith did not write: {error!r:.300}") from error
