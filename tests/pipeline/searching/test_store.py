"""The store keeps every trial once, whoever was killed, and refuses what is not its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from netsmith.arch import Arch
from netsmith.errors import ArchError, MissingExtraError, StoreError
from netsmith.pipeline.alive import is_dead, this_worker
from netsmith.pipeline.searching import database, store
from netsmith.pipeline.searching.store import MAX_SAMPLES, Claim, Contents, Store
from netsmith.published.nas_bench_macro import macro
from netsmith.trial import Trial

optuna = pytest.importorskip("optuna")

CONTENTS = Contents("pairs", {"stem": ("small", "large"), "block": ("a", "b", "c")}, ("error", "macs"), "7f")
ARCHS = [Arch("pairs", choices) for choices in product(range(2), range(3))]


def trial(arch: Arch) -> Trial:
    return Trial(arch, {"error": sum(arch.choices) / 10, "macs": 3.0, "latency_ms": 0.25})


def claimed(kept: Store, arch: Arch) -> Claim:
    claim = kept.claim(arch)
    assert claim is not None
    return claim


def states(path: Path) -> list[str]:
    study = optuna.load_study(study_name="it", storage=f"sqlite:///{path}")
    return [frozen.state.name for frozen in study.trials]


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_what_is_finished_comes_back_in_order(tmp_path: Path) -> None:
    kept = Store.open(tmp_path / "it.db", "it", CONTENTS)
    tenth = np.float32(0.1)  # as NumPy's numbers come
    written = [
        trial(ARCHS[4]),
        Trial(ARCHS[3], {"error": tenth, "macs": 10**12}),
        Trial(ARCHS[1], {"macs": 5.0}, "out of memory"),
        trial(ARCHS[0]),
    ]
    for one in written:
        assert claimed(kept, one.arch).finish(one, {"latency_ms": [0.25] * 5000})
    claimed(kept, ARCHS[2])
    assert kept.trials() == written
    kept.close()
    assert Store.open(tmp_path / "it.db", "it", CONTENTS).trials() == written


def test_optuna_and_so_its_dashboard_see_decisions_objectives_and_attributes(tmp_path: Path) -> None:
    kept = Store.open(tmp_path / "it.db", "it", CONTENTS)
    claimed(kept, ARCHS[5]).finish(trial(ARCHS[5]), {"latency_ms": [0.1 * i for i in range(5000)]})
    claimed(kept, ARCHS[1]).finish(Trial(ARCHS[1], {}, "out of memory"))
    study = optuna.load_study(study_name="it", storage=f"sqlite:///{tmp_path / 'it.db'}")
    assert study.metric_names == ["error", "macs"]
    assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 2
    done, failed = study.trials
    assert done.params == {"stem": "large", "block": "c"}
    assert done.distributions["block"].choices == ("a", "b", "c")
    assert done.values == [0.3, 3.0]
    assert done.user_attrs["arch"] == ARCHS[5].to_dict()
    assert done.user_attrs["figures"]["latency_ms"] == 0.25
    assert 0 < len(done.user_attrs["samples latency_ms"]) <= MAX_SAMPLES
    assert done.user_attrs["seconds"] >= 0
    assert str(os.getpid()) in done.user_attrs["worker"]
    assert (failed.state.name, failed.user_attrs["reason"]) == ("FAIL", "out of memory")


def test_an_arch_is_claimed_once_until_it_is_given_up(tmp_path: Path) -> None:
    kept, other = (Store.open(tmp_path / "it.db", "it", CONTENTS) for _ in range(2))
    claim = claimed(kept, ARCHS[0])
    assert other.claim(ARCHS[0]) is None
    with pytest.raises(ZeroDivisionError), claim:
        raise ZeroDivisionError
    assert claimed(other, ARCHS[0]).finish(trial(ARCHS[0]))
    assert kept.claim(ARCHS[0]) is None
    assert not claim.finish(trial(ARCHS[0]))
    assert kept.trials() == [trial(ARCHS[0])]
    assert states(tmp_path / "it.db") == ["PRUNED", "COMPLETE"]


def test_of_claims_at_one_time_the_lowest_number_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every thread passes the first look before any of them adds its trial."""
    threads = 4
    together = threading.Barrier(threads)
    stores = [Store.open(tmp_path / "it.db", "it", CONTENTS) for _ in range(threads)]
    begin = database.Study.begin

    def late(self: database.Study, *arguments: object) -> tuple[int, int]:
        together.wait(30)
        return begin(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(database.Study, "begin", late)
    claims: list[Claim | None] = []
    work = [threading.Thread(target=lambda s=s: claims.append(s.claim(ARCHS[3]))) for s in stores]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    (won,) = [claim for claim in claims if claim is not None]
    assert won.finish(trial(ARCHS[3]))
    assert states(tmp_path / "it.db") == ["COMPLETE"] + ["PRUNED"] * (threads - 1)
    assert stores[0].trials() == [trial(ARCHS[3])]


WORKER = """
import sys, time
from netsmith.arch import Arch
from netsmith.pipeline.searching.store import Contents, Store
contents = Contents("pairs", {"stem": ("small", "large"), "block": ("a", "b", "c")}, ("error", "macs"), "7f")
kept = Store.open(sys.argv[1], "it", contents)
claim = kept.claim(Arch("pairs", (1, 1)))
print("claimed", flush=True)
time.sleep(600)
"""


def killed_worker(address: str) -> None:
    """Let a process claim (1, 1), and kill it."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells one start of a process from another")
def test_what_a_killed_worker_had_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "it.db"
    kept = Store.open(path, "it", CONTENTS)
    assert claimed(kept, ARCHS[0]).finish(trial(ARCHS[0]))
    killed_worker(str(path))
    assert states(path) == ["COMPLETE", "RUNNING"]
    assert claimed(kept, Arch("pairs", (1, 1))).finish(trial(Arch("pairs", (1, 1))))
    assert kept.trials() == [trial(ARCHS[0]), trial(Arch("pairs", (1, 1)))]
    assert states(path) == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_a_worker_of_elsewhere_is_gone_when_its_signs_stay_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "is_dead", lambda worker: False)
    path, arch = tmp_path / "it.db", Arch("pairs", (1, 1))
    killed_worker(str(path))
    kept = Store.open(path, "it", CONTENTS, grace_s=1.0)
    assert kept.claim(arch) is None
    time.sleep(1.2)
    assert claimed(kept, arch).finish(trial(arch))


def test_a_worker_that_gives_signs_keeps_its_arch_however_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "is_dead", lambda worker: False)
    path = tmp_path / "it.db"
    worker = Store.open(path, "it", CONTENTS, beat_s=0.1)
    other = Store.open(path, "it", CONTENTS, grace_s=1.5)
    claim = claimed(worker, ARCHS[0])
    for _ in range(8):
        assert other.claim(ARCHS[0]) is None
        time.sleep(0.4)
    assert claim.finish(trial(ARCHS[0]))


def test_who_slept_too_long_finds_the_arch_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.db"
    sleeper = Store.open(path, "it", CONTENTS, beat_s=600)
    other = Store.open(path, "it", CONTENTS, grace_s=0.0)
    late = claimed(sleeper, ARCHS[0])
    assert other.claim(ARCHS[0]) is None
    time.sleep(0.01)
    assert claimed(other, ARCHS[0]).finish(trial(ARCHS[0]))
    assert not late.finish(Trial(ARCHS[0], {"error": 0.9, "macs": 1.0}))
    assert other.trials() == sleeper.trials() == [trial(ARCHS[0])]


def test_this_process_lives_and_others_are_judged_by_when_they_started() -> None:
    me = this_worker()
    assert not is_dead(me)
    head, _, started = me.rpartition(" ")
    if "elsewhere" not in me:
        assert is_dead(f"{head} {int(started) - 1}")
    for unknown in (None, 3, "", "host", f"host other-boot {os.getpid()} 1", "host elsewhere x none"):
        assert not is_dead(unknown)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Contents("fours", CONTENTS.decisions, CONTENTS.objectives, "7f"), "its space is 'pairs'"),
        (Contents("pairs", CONTENTS.decisions, ("error",), "7f"), r"its objectives is \['error', 'macs'\]"),
        (Contents("pairs", CONTENTS.decisions, CONTENTS.objectives, "80"), "its settings is '7f'"),
        (Contents("pairs", {"stem": ("a", "b")}, CONTENTS.objectives, "7f"), "its decisions is"),
    ],
)
def test_another_design_of_the_name_is_refused(tmp_path: Path, other: Contents, said: str) -> None:
    Store.open(tmp_path / "it.db", "it", CONTENTS)
    with pytest.raises(StoreError, match=said):
        Store.open(tmp_path / "it.db", "it", other)
    assert Store.open(tmp_path / "it.db", "another", other).trials() == []


def test_the_decisions_of_a_chain_are_its_blocks(tmp_path: Path) -> None:
    space = macro()
    decisions = space.decisions
    assert list(decisions)[:2] == ["block 01", "block 02"]
    assert tuple(map(len, decisions.values())) == space.sizes
    kept = Store.open(tmp_path / "it.db", "it", Contents(space.id, decisions, ("error",), ""))
    arch = space.arch((1, 0, 2, 1, 1, 0, 0, 2))
    assert claimed(kept, arch).finish(Trial(arch, {"error": 0.1}))
    (frozen,) = optuna.load_study(study_name="it", storage=f"sqlite:///{tmp_path / 'it.db'}").trials
    assert list(frozen.params.values()) == [block.key for block in space.plan(arch).blocks[1:-1]]


def test_contents_have_distinct_names() -> None:
    for options, objectives in (
        (("a", "a"), ("error",)),
        ((), ("error",)),
        (("a",), ()),
        (("a",), ("e", "e")),
    ):
        with pytest.raises(StoreError, match="distinct names"):
            Contents("pairs", {"stem": options}, objectives, "")


def test_what_is_no_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("not a database, " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path / "text.db", "it", CONTENTS)
    with pytest.raises(StoreError, match="unable to open"):
        Store.open(tmp_path / "no" / "folder.db", "it", CONTENTS)
    with pytest.raises(StoreError, match="a path, or like"):
        Store.open("://", "it", CONTENTS)
    with pytest.raises(StoreError) as refused:
        Store.open("nonsense://user:secret@host/name", "it", CONTENTS)
    assert "secret" not in str(refused.value)
    optuna.create_study(study_name="foreign", storage=f"sqlite:///{tmp_path / 'it.db'}").optimize(
        lambda t: t.suggest_float("x", 0, 1), n_trials=1
    )
    with pytest.raises(StoreError, match="not begun by Netsmith"):
        Store.open(tmp_path / "it.db", "foreign", CONTENTS)
    monkeypatch.setattr(database, "MAX_BYTES", 10)
    with pytest.raises(StoreError, match="at most 10 are read"):
        Store.open(tmp_path / "it.db", "it", CONTENTS)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("arch", {"space": "fours", "choices": [0, 0]}),
        ("arch", {"space": "pairs", "choices": [0, 3]}),
        ("arch", {"space": "pairs", "choices": [0]}),
        ("arch", "x"),
        ("figures", {"error": "low", "macs": 3.0}),
        ("figures", {"error": True, "macs": 3.0}),
        ("figures", {"error": 0.5, "macs": 3.0}),
        ("figures", {"macs": 3.0}),
        ("figures", {str(i): 1.0 for i in range(2000)}),
        ("figures", 3),
        ("reason", "late"),
    ],
)
def test_a_trial_that_was_tampered_with_is_refused(tmp_path: Path, attribute: str, value: object) -> None:
    path = tmp_path / "it.db"
    claimed(Store.open(path, "it", CONTENTS), ARCHS[0]).finish(trial(ARCHS[0]))
    change(path, "DELETE FROM trial_user_attributes WHERE key = ?", attribute)
    row = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, ?, ?)"
    change(path, row, attribute, json.dumps(value))
    with pytest.raises(StoreError, match="trial 0 of study 'it'"):
        Store.open(path, "it", CONTENTS).trials()


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "NaN"])
def test_rows_that_are_not_json_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "it.db"
    kept = Store.open(path, "it", CONTENTS)
    claimed(kept, ARCHS[0]).finish(trial(ARCHS[0]))
    change(path, "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'figures'", text)
    with pytest.raises(StoreError):
        Store.open(path, "it", CONTENTS).trials()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET number = NULL",
        "UPDATE trials SET number = 'first'",
        "UPDATE trials SET state = 'DONE'",
        "UPDATE trials SET datetime_start = 'yesterday'",
        "UPDATE trial_params SET distribution_json = '[]'",
        "UPDATE trial_params SET param_value = 7",
        "UPDATE trial_values SET value = 'low'",
        "UPDATE trial_values SET objective = objective + 9",
        "UPDATE trial_values SET value_type = 'INF_POS'",
        "DELETE FROM trial_values",
        "UPDATE trial_user_attributes SET key = 'figure' WHERE key = 'figures'",
        "UPDATE study_user_attributes SET value_json = '[1]'",
        "UPDATE study_directions SET direction = 'MAXIMIZE'",
        "DROP TABLE trial_values",
    ],
)
def test_a_damaged_database_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "it.db"
    kept = Store.open(path, "it", CONTENTS)
    claimed(kept, ARCHS[0]).finish(trial(ARCHS[0]))
    kept.close()
    change(path, statement)
    with pytest.raises(StoreError):
        Store.open(path, "it", CONTENTS).trials()


def test_only_trials_of_the_arch_with_every_figure_are_written(tmp_path: Path) -> None:
    kept = Store.open(tmp_path / "it.db", "it", CONTENTS)
    claim = claimed(kept, ARCHS[0])
    for broken in (
        trial(ARCHS[1]),
        Trial(ARCHS[0], {"error": 0.5}),
        Trial(ARCHS[0], {"error": float("nan"), "macs": 1.0}),
        Trial(ARCHS[0], {"macs": float("inf")}, "it failed"),
        Trial(ARCHS[0], {"error": 0.5, "macs": "many"}),  # type: ignore[dict-item]
    ):
        with pytest.raises(StoreError):
            claim.finish(broken)
    assert claim.finish(trial(ARCHS[0]))
    for arch in (Arch("fours", (0, 0)), Arch("pairs", (0,)), Arch("pairs", (0, 3)), Arch("pairs", (-1, 0))):
        with pytest.raises(ArchError):
            kept.claim(arch)


def test_any_folder_name_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "a b{SCHEMA_VERSION}%41?#'é"
    folder.mkdir()
    kept = Store.open(folder / "it.db", "it", CONTENTS)
    assert claimed(kept, ARCHS[0]).finish(trial(ARCHS[0]))
    assert (folder / "it.db").stat().st_size > 0


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[optuna\]"):
        Store.open(tmp_path / "it.db", "it", CONTENTS)
