"""Designs whose archs are trained one by one: a front, the same after being killed, and picks from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from netsmith import pareto
from netsmith.budget import Budget
from netsmith.errors import BudgetError, FolderError, SettingsError, StoreError
from netsmith.journal import read
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.pick import pick
from netsmith.pipeline.searching import short_training
from netsmith.pipeline.searching.several import run_several
from netsmith.pipeline.settings import Settings

Make = Callable[..., Settings]
TRIALS = 6


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """As many trainings as show what is to be shown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(short_training.TRAININGS, "quick", TRIALS)
        yield


@pytest.fixture(scope="module")
def asked(small: Make) -> Settings:
    return small(
        strategy="dpp", objectives="error,latency,size", latency=None, stages=None, width=0.5,
        search_epochs=1, epochs=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def design(asked: Settings, tmp_path_factory: pytest.TempPathFactory) -> Design:
    return run(asked, tmp_path_factory.mktemp("trained") / "dpp")


def test_a_front_of_trained_archs_is_found_on_the_device(design: Design) -> None:
    events = [e for e in read(design.folder / "journal") if e["event"] == "trial"]
    assert len(events) == len({e["digest"] for e in events}) == TRIALS
    assert design.result["space"].startswith("dense-")
    assert design.result["strategy"] == "dpp"
    points = [tuple(p["figures"][n] for n in ("error", "latency_ms", "size_bytes")) for p in design.front]
    assert pareto.front(points) == list(range(len(points)))
    assert design.accuracy > 0.5
    assert design.arch.digest in {point["digest"] for point in design.front}, "what is chosen is of the front"
    assert design.result["parity_worst"] <= 1e-4
    assert not list((design.folder / "checkpoints").glob("trial-*"))


def test_the_store_keeps_what_was_measured(design: Design) -> None:
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{design.folder / 'journal.db'}")
    kept = optuna.load_study(
        study_name=study.study_name, storage=f"sqlite:///{design.folder / 'journal.db'}"
    ).trials
    assert len(kept) == TRIALS
    for trial in kept:
        figures, samples = trial.user_attrs["figures"], trial.user_attrs["samples latency_ms"]
        assert min(samples) <= figures["latency_ms"] <= max(samples)
        assert trial.values == [figures[name] for name in ("error", "latency_ms", "size_bytes")]


def test_its_page_draws_the_front(design: Design) -> None:
    page = (design.folder / "report.html").read_text()
    assert page.count('class="front-arch"') == len(design.front)
    assert "3x3" in page  # what an arch is made of, at its point


def test_killed_in_the_search_it_ends_in_the_same_trials(
    asked: Settings, design: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = short_training.train, []

    class Killed(BaseException):
        pass

    def dying(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return train(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(short_training, "train", dying)
    with pytest.raises(Killed):
        run(asked, tmp_path / "killed")
    again = run(asked, tmp_path / "killed")
    trained_once = [e["network"] for e in read(tmp_path / "killed" / "journal") if e["event"] == "trained"]
    assert len(calls) == len(trained_once) + 1
    assert len(trained_once) == len(set(trained_once)) <= TRIALS
    assert again.front == design.front
    assert again.arch == design.arch


def test_a_point_of_the_front_is_picked_by_a_limit(design: Design) -> None:
    fastest = design.front[0]
    limit = fastest["latency_ms"] * 1.001
    picked = pick(design.folder, Budget(latency_ms=limit))
    assert picked.arch.digest == fastest["digest"]
    assert picked.budget_met
    assert picked.folder.parent == design.folder / "picks"
    assert picked.exported.read_bytes()
    assert picked.arch.digest[:8] in (design.folder / "report.html").read_text()
    assert pick(design.folder, Budget(), digest=fastest["digest"][:8]).result == picked.result


def test_what_the_front_has_not_is_refused(design: Design, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the least it has"):
        pick(design.folder, Budget(latency_ms=1e-9))
    with pytest.raises(BudgetError, match="names 0 archs"):
        pick(design.folder, Budget(), digest="zz")
    with pytest.raises(FolderError, match="no finished design"):
        pick(tmp_path, Budget())


def test_archs_of_a_chain_may_be_trained_too(small: Make, tmp_path: Path) -> None:
    design = run(small(judge="training", strategy="random", search_epochs=1), tmp_path)
    assert design.budget_met
    assert design.result["judge"] == "training"
    events = [e for e in read(tmp_path / "journal") if e["event"] == "trial"]
    assert 0 < len(events) <= TRIALS
    assert not [e for e in read(tmp_path / "journal") if e["event"] == "search_epoch"]


def test_a_budget_out_of_reach_is_said_with_the_least(asked: Settings, small: Make, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="latency_ms"):
        run(small(strategy="dpp", stages=None, width=None, latency=1e-6), tmp_path)


def test_a_store_that_cannot_be_is_said_before_any_work(small: Make, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        run(small(strategy="evolution", storage="nosuch://x"), tmp_path)
    assert not (tmp_path / "journal").exists()


def test_several_devices_are_refused(small: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="share one supernet"):
        run_several(
            [small(strategy="dpp", stages=None, device=d) for d in ("fake", "fake:likes=7")], tmp_path
        )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"strategy": "dpp", "space": "mbconv"}, "space 'dense'"),
        ({"strategy": "proxyless", "space": "dense"}, "path probabilities"),
        ({"strategy": "proxyless", "judge": "training"}, "path probabilities"),
        ({"space": "dense", "judge": "supernet"}, "no supernet"),
        ({"strategy": "evolution", "objectives": "latency,error"}, "objectives"),
        ({"strategy": "evolution", "objectives": "error,error"}, "objectives"),
        ({"objectives": "error,latency"}, "not a front"),
        ({"workers": 2}, "--storage"),
        ({"workers": 0}, "workers"),
        ({"storage": "trials.db"}, "leave --storage out"),
    ],
)
def test_ways_that_lead_nowhere_are_refused(small: Make, changes: dict[str, object], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        small(stages=None, **changes)
