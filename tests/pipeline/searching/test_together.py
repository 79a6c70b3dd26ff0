"""Workers that share a store do one search between them: no arch twice, none lost, whoever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from itertools import product
from pathlib import Path
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.pipeline.searching.store import Contents, Store
from netsmith.pipeline.searching.together import search_together
from netsmith.search.random import RandomSearch
from netsmith.trial import Trial

pytest.importorskip("optuna")

SIZES = (3, 4, 2)
CONTENTS = Contents(
    "small", {f"decision {i}": tuple("abcd"[:size]) for i, size in enumerate(SIZES)}, ("error",), ""
)
EVERY = [Arch("small", choices) for choices in product(*map(range, SIZES))]
POSTGRESQL = os.environ.get("NETSMITH_TEST_POSTGRESQL", "")  # such as postgresql+psycopg://user@host/name


class InTurn:
    """Asks for every arch in an order that follows from the trials so far, as a searcher's does."""

    def __init__(self, seed: int) -> None:
        self._left, self._seed, self._told = list(EVERY), seed, 0.0

    def ask(self) -> Arch:
        chosen = Random(f"{self._seed} {self._told:.6f}").randrange(len(self._left))
        return self._left.pop(chosen)

    def tell(self, trial: Trial) -> None:
        self._told += trial.figures.get("error", 0.5)


def evaluate(arch: Arch) -> Trial:
    if sum(arch.choices) == 4:
        return Trial(arch, {}, "it failed")
    return Trial(arch, {"error": sum(c * 10**-i for i, c in enumerate(arch.choices)) / 7})


def work(address: str, log: Path, seconds: float, ahead: int) -> list[Trial]:
    def noted(arch: Arch) -> Trial:
        with log.open("a") as file:
            file.write(f"{arch.choices}\n")
        time.sleep(seconds)
        return evaluate(arch)

    store = Store.open(address, "it", CONTENTS, beat_s=0.2, grace_s=5.0)
    return search_together(store, InTurn(1), noted, len(EVERY), ahead=ahead, poll_s=0.02)


def started(address: str, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_together as it; from pathlib import Path; "
    )
    code += "it.work(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), 3)"
    folder = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", code, folder, address, str(log), str(seconds)])


def check_workers(address: str, folder: Path) -> None:
    logs = [folder / "first", folder / "second"]
    workers = [started(address, log, 0.05) for log in logs]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    done = [log.read_text().splitlines() for log in logs]
    assert sorted(done[0] + done[1]) == sorted(str(arch.choices) for arch in EVERY)
    assert all(len(lines) > 2 for lines in done)
    alone = search_together(
        Store.open(folder / "alone.db", "it", CONTENTS), InTurn(1), evaluate, len(EVERY), ahead=3
    )
    again = work(address, folder / "third", 0.0, 3)
    assert again == alone  # the same search, whoever did it
    assert not (folder / "third").exists()


def test_two_processes_evaluate_every_arch_once(tmp_path: Path) -> None:
    check_workers(str(tmp_path / "it.db"), tmp_path)


@pytest.mark.skipif(not POSTGRESQL, reason="NETSMITH_TEST_POSTGRESQL names no server's database")
def test_two_processes_evaluate_every_arch_once_in_postgresql(tmp_path: Path) -> None:
    import optuna

    check_workers(POSTGRESQL, tmp_path)
    optuna.delete_study(study_name="it", storage=POSTGRESQL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells one start of a process from another")
def test_killed_in_the_middle_it_goes_on_and_ends_alike(tmp_path: Path) -> None:
    path, log = str(tmp_path / "it.db"), tmp_path / "log"
    worker = started(path, log, 0.1)
    while not log.exists() or len(log.read_text().splitlines()) < 5:
        assert worker.poll() is None
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    trials = work(path, log, 0.0, 3)
    store = Store.open(tmp_path / "alone.db", "it", CONTENTS)
    assert trials == search_together(store, InTurn(1), evaluate, len(EVERY), ahead=3)
    assert len(log.read_text().splitlines()) <= len(EVERY) + 1  # what was under way is done again


def test_an_arch_that_is_asked_for_again_is_read(tmp_path: Path) -> None:
    store, calls = Store.open(tmp_path / "it.db", "it", CONTENTS), []

    def once(arch: Arch) -> Trial:
        calls.append(arch)
        return evaluate(arch)

    heard = []
    search = RandomSearch(lambda rng: EVERY[rng.randrange(2)], 0)
    trials = search_together(store, search, once, 6, on_trial=lambda n, t: heard.append((n, t)))
    assert len(trials) == 6
    assert heard == list(enumerate(trials, 1))
    assert len(calls) == 2


def test_an_arch_whose_evaluation_raises_is_free_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / uuid.uuid4().hex, "it", CONTENTS)

    def broken(arch: Arch) -> Trial:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search_together(store, InTurn(0), broken, 3)
    assert len(search_together(store, InTurn(0), evaluate, 3)) == 3
