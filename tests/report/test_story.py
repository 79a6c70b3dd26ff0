"""What the page says in words."""

from collections.abc import Callable
from pathlib import Path

import pytest

from netsmith.report import story
from netsmith.report.folder import read_folder

Make = Callable[..., Path]


def test_a_kept_budget_is_the_headline(make_folder: Make) -> None:
    said = story.verdict(read_folder(make_folder()))
    assert (said.kind, said.words, said.reasons) == ("met", "Budget met", ())
    assert said.headline == "93.64\u202f% right, in 0.563\u202fms"


def test_a_missed_budget_is_said_with_its_reasons(make_folder: Make) -> None:
    said = story.verdict(read_folder(make_folder(budget_met=False, reasons=["too slow"])))
    assert (said.kind, said.reasons) == ("missed", ("too slow",))


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("started", "only started"),
        ("profile", "the search came next"),
        ("search_epoch", "searching, epoch 24"),
        ("train_epoch", "training 'random', epoch 30"),
    ],
)
def test_an_unfinished_design_says_where_it_stands(make_folder: Make, until: str, words: str) -> None:
    said = story.verdict(read_folder(make_folder(until=until)))
    assert said.kind == "unfinished"
    assert words in said.reasons[0]


def test_a_design_that_failed_before_measuring_still_has_a_verdict(make_folder: Make) -> None:
    path = make_folder(accuracy=None, latency_ms=None, budget_met=False, reasons=["no arch trained"])
    said = story.verdict(read_folder(path))
    assert (said.kind, said.headline) == ("missed", "This design ended without a measured network")
    assert story.gauge(read_folder(path)) is None


def test_limits_are_held_against_what_was_measured(make_folder: Make) -> None:
    budget = {"latency_ms": 0.6, "size_bytes": 1e6, "params": 5e6}
    limits = story.limits(read_folder(make_folder(budget=budget, params=None)))
    assert [(limit.name, limit.kept) for limit in limits] == [
        ("latency", True), ("file size", False), ("parameters", None),
    ]  # fmt: skip


def test_the_gauge_has_room_for_the_budget_and_the_spread(make_folder: Make) -> None:
    gauge = story.gauge(read_folder(make_folder()))
    assert gauge is not None
    assert gauge.limit is not None
    assert 0 < gauge.low < gauge.value < gauge.high < gauge.limit < 100
    assert gauge.value / gauge.limit == pytest.approx(0.5631 / 0.6, abs=1e-4)


def test_a_warning_is_said_once(make_folder: Make) -> None:
    said = story.warnings(read_folder(make_folder(warnings=["the machine was busy while timing", "more"])))
    assert said == ["the machine was busy while timing", "more"]


def test_mistakes_and_recall_are_counted_from_the_confusion(make_folder: Make) -> None:
    path = make_folder(confusion=[[8, 2, 0], [0, 5, 0], [0, 3, 0]], label_names=["a", "b"])
    folder = read_folder(path)
    assert story.mistakes(folder) == [("label 2", "b", 3), ("a", "b", 2)]
    assert story.recall(folder) == [("a", 10, 0.8), ("b", 5, 1.0), ("label 2", 3, 0.0)]


def test_a_confusion_that_is_none_is_not_shown(make_folder: Make) -> None:
    folder = read_folder(make_folder(confusion=[None, ["x", 1], 4]))
    assert story.mistakes(folder) == []
    assert len(story.recall(folder)) == 3
