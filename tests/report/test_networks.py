"""The networks side by side: the front, the budget, and candidates of unfinished designs."""

from collections.abc import Callable
from pathlib import Path

from netsmith.report.folder import read_folder
from netsmith.report.networks import candidates, latency_limit, trained

Make = Callable[..., Path]


def test_networks_come_fastest_first_with_the_front_marked(make_folder: Make) -> None:
    networks = trained(read_folder(make_folder()))
    assert [n.latency_ms for n in networks] == sorted(n.latency_ms or 0 for n in networks)
    assert {n.name for n in networks if n.on_front} == {"mobilenetv2-0.25", "Netsmith"}
    assert {n.name for n in networks if n.within is False} == {"mobilenetv2-0.75", "mobilenetv2-1.0"}


def test_a_network_that_was_not_measured_is_listed_last_and_on_no_front(make_folder: Make) -> None:
    path = make_folder(baselines={"slow": {"kind": "random", "accuracy": 0.99}})
    last = trained(read_folder(path))[-1]
    assert (last.name, last.latency_ms, last.on_front, last.within) == ("slow", None, False, None)


def test_candidates_of_a_finished_design_are_those_of_its_front(make_folder: Make) -> None:
    found = candidates(read_folder(make_folder()))
    assert len(found) == 9
    assert found[-1].reason.startswith("latency_ms 0.62")


def test_candidates_of_an_unfinished_design_are_its_trials_once_each(make_folder: Make) -> None:
    path = make_folder()
    finished = candidates(read_folder(path))
    make_folder(until="trial")
    (path / "result.json").unlink()
    found = candidates(read_folder(path))
    assert all(c.on_front for c in finished)
    assert [c.latency_ms for c in found] == [c.latency_ms for c in finished]
    assert all(c.measured and c.predicted_ms is not None for c in found)


def test_the_budget_of_an_unfinished_design_is_what_its_settings_ask(make_folder: Make) -> None:
    path = make_folder(until="data")
    assert latency_limit(read_folder(path)) == 0.6
    for text, limit in (
        ('latency = "200us"\nbudget = "quick"', 0.2),
        ("latency = 0.3", 0.3),
        ("latency = []", None),
        ("latency = 'soon'", None),
        ("= broken", None),
        ("", None),
    ):
        (path / "design.toml").write_text(text)
        assert latency_limit(read_folder(path)) == limit, text
