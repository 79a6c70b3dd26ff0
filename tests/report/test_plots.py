"""The plots hold the figures of the folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netsmith.report import plots
from netsmith.report.folder import read_folder
from netsmith.report.networks import candidates, trained

Make = Callable[..., Path]


def test_the_trade_off_shows_every_trained_network_and_the_budget(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    spec = plots.trade_off(trained(folder), 0.6)
    assert spec is not None
    shown = {(x, y) for trace in spec["data"][1:] for x, y in zip(trace["x"], trace["y"], strict=True)}
    networks = [folder.result, *folder.result["baselines"].values()]
    assert shown == {(n["latency_ms"], 100 * n["accuracy"]) for n in networks}
    assert spec["layout"]["shapes"][0]["x0"] == 0.6
    most = max(x for x, _ in shown)
    for limit, side in ((0.9 * most, "right"), (0.3 * most, "left")):
        named = plots.trade_off(trained(folder), limit)
        assert named is not None
        assert named["layout"]["annotations"][0]["xanchor"] == side, "within the plot on either side"
    assert len({trace["marker"]["symbol"] for trace in spec["data"][1:]}) == 3


def test_candidates_keep_measured_and_predicted_apart(make_folder: Make) -> None:
    path = make_folder(until="result", front=[
        {"name": "a", "latency_ms": 0.5, "validation_accuracy": 0.8, "reason": ""},
        {"name": "b", "latency_ms": 0.7, "validation_accuracy": 0.9, "reason": "over"},
        {"name": "c", "latency_ms_predicted": 0.4, "validation_accuracy": 0.7, "reason": ""},
        {"name": "d", "latency_ms": 0.4},
    ])  # fmt: skip
    (path / "journal").unlink()
    spec = plots.choices(candidates(read_folder(path)), None)
    assert spec is not None
    assert {trace["name"]: trace["x"] for trace in spec["data"][1:]} == {
        "measured": [0.5], "measured, set aside": [0.7], "predicted only": [0.4],
    }  # fmt: skip


def test_each_frame_of_the_paths_holds_the_probabilities_of_its_epoch(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    spec = plots.paths(folder)
    assert spec is not None
    epochs = folder.epochs("search_epoch")
    assert len(spec["frames"]) == len(epochs)
    assert spec["data"][0]["z"] == spec["frames"][-1]
    assert spec["data"][0]["y"][-1] == "skip"
    for frame, epoch in zip(spec["frames"], epochs, strict=True):
        columns = [[row[i] for row in frame] for i in range(21)]
        for column, row in zip(columns, epoch["probabilities"], strict=True):
            kept = [value for value in column if value is not None]
            assert kept == pytest.approx(row, abs=1e-4)


def test_many_epochs_are_thinned_and_the_last_is_kept(make_folder: Make) -> None:
    path = make_folder(until="started")
    events = [{"event": "search_epoch", "epoch": i, "probabilities": [[0.5, 0.5]]} for i in range(1000)]
    with (path / "journal").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    spec = plots.paths(read_folder(path))
    assert spec is not None
    assert len(spec["frames"]) <= plots.MAX_FRAMES
    assert spec["frame_names"][-1] == "epoch 1000 (search)"


def test_curves_hold_the_journal(make_folder: Make) -> None:
    folder = read_folder(make_folder())
    spec = plots.search_curve(folder, "expected_ms", "expected", 0.6)
    assert spec is not None
    assert spec["data"][0]["y"] == [e["expected_ms"] for e in folder.epochs("search_epoch")]
    training = plots.training(folder, "accuracy", "accuracy", 100)
    assert training is not None
    assert len(training["data"]) == 6
    mine = [e for e in folder.epochs("train_epoch") if e["name"] == "design"]
    assert training["data"][0]["y"] == [100 * e["accuracy"] for e in mine]


def test_what_is_not_there_is_not_plotted(make_folder: Make) -> None:
    folder = read_folder(make_folder(until="started"))
    assert plots.trade_off([], None) is None
    assert plots.choices([], None) is None
    assert plots.paths(folder) is None
    assert plots.search_curve(folder, "loss", "") is None
    assert plots.training(folder, "loss", "") is None


def test_outside_text_cannot_write_tags_in_a_plot() -> None:
    assert plots.safe("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"
    assert len(plots.safe("x" * 1000)) == 80


def test_where_another_limit_was_the_tightest_the_expected_cost_is_not_called_latency(
    make_folder: Make,
) -> None:
    path = make_folder(budget={"latency_ms": 0.6, "macs": 2e7})
    spec = plots.expected(read_folder(path), 0.6)
    assert spec is not None
    assert spec["layout"]["yaxis"]["title"]["text"] == "expected cost"
    assert spec["layout"]["shapes"][0]["type"] == "rect"  # the warm-up alone, no line of the latency budget
    aim = {"event": "aim", "figure": "macs", "target": 1.9e7}
    with (path / "journal").open("a") as file:
        file.write(json.dumps(aim) + "\n")
    spec = plots.expected(read_folder(path), 0.6)
    assert spec is not None
    assert spec["layout"]["yaxis"]["title"]["text"] == "expected macs"
    assert spec["layout"]["shapes"][0]["y0"] == 1.9e7


def test_random_draws_are_told_from_what_the_search_derived(make_folder: Make) -> None:
    path = make_folder(until="started")
    figures = {"error": 0.2, "latency_ms": 0.5}
    trial = {"arch": {"space": "s", "choices": [1]}, "figures": figures, "reason": ""}
    with (path / "journal").open("a") as file:
        file.write(json.dumps({"event": "trial", "stage": "random", "trial": trial}) + "\n")
    spec = plots.choices(candidates(read_folder(path)), None)
    assert spec is not None
    assert [trace["name"] for trace in spec["data"]] == ["drawn at random, measured"]


def test_evaluations_are_in_their_order_with_the_best_so_far(make_folder: Make) -> None:
    path = make_folder(until="started")
    assert plots.evaluations(read_folder(path)) is None
    trials = [{"figures": {"error": error}} for error in (0.5, 0.25, 0.75)] + [{"figures": {}}]
    with (path / "journal").open("a") as file:
        for trial in trials:
            file.write(json.dumps({"event": "trial", "stage": "derive", "trial": trial}) + "\n")
    spec = plots.evaluations(read_folder(path))
    assert spec is not None
    assert spec["data"][0]["y"] == [50.0, 75.0, 25.0]
    assert spec["data"][1]["y"] == [50.0, 75.0, 75.0]
