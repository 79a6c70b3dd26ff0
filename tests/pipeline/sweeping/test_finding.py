"""What a sweep shows, from figures whose ratios and verdict are known."""

from __future__ import annotations

from typing import Any

import pytest

from netsmith.pipeline.sweeping.finding import finding, fronts, ratio


def point(
    kind: str, latency: float, accuracy: float = 0.9, width: float = 0.01, **asked: Any
) -> dict[str, Any]:
    strength = asked.pop("strength", 0.0 if kind == "whole" else 0.5)
    return {
        "network": kind if kind == "whole" else f"{kind}-{strength:g}", "kind": kind, "strength": strength,
        "runtime": "r", "precision": "float32", "threads": 1, "reason": "", "accuracy": accuracy,
        "latency_ms": latency, "latency_ms_interval": [latency * (1 - width), latency * (1 + width)],
        "wide": False, "size_bytes": 1000, "stored_bytes": 900, "peak_bytes": 5000, **asked,
    }  # fmt: skip


def test_a_ratio_lies_between_the_worst_of_both_intervals() -> None:
    whole, other = point("whole", 2.0, width=0.1), point("channels", 1.0, width=0.2)
    assert ratio(whole, other) == pytest.approx((2.0, 1.8 / 1.2, 2.2 / 0.8))


def test_gains_are_against_the_whole_network_under_the_same_conditions() -> None:
    points = [
        point("whole", 2.0), point("whole", 1.0, precision="int8", accuracy=0.8),
        point("channels", 1.0, 0.88, size_bytes=500), point("channels", 0.4, precision="int8", accuracy=0.8),
        point("channels", 0.5, 0.895, strength=0.75, size_bytes=250),
    ]  # fmt: skip
    gain = finding(points)["gains"]["channels"]
    assert gain["points"] == 3
    assert gain["speed_up"][0] == pytest.approx(2.5)
    assert (gain["least"][0], gain["most"][0]) == pytest.approx((2.0, 4.0))
    assert (gain["surely_faster"], gain["surely_slower"]) == (3, 0)
    assert gain["as_accurate"] == 2, "0.895 and the int8 one"
    assert gain["most_as_accurate"][0] == pytest.approx(4.0)
    assert gain["size"] == pytest.approx(0.5)
    int8 = finding(points)["gains"]["int8"]
    assert int8["points"] == 2
    assert [int8["least"][0], int8["most"][0]] == pytest.approx([2.0, 2.5])
    assert "threads" not in finding(points)["gains"]


def test_threads_are_against_the_fewest() -> None:
    points = [point("whole", 2.0), point("whole", 1.25, threads=2), point("whole", 1.0, threads=4)]
    gain = finding(points)["gains"]["threads"]
    assert (gain["points"], gain["least"][0], gain["most"][0]) == (2, pytest.approx(1.6), pytest.approx(2.0))
    assert "More threads than 1" in finding(points)["text"][0]


@pytest.mark.parametrize(
    ("weights", "channels", "verdict"),
    [
        (2.0, 1.0, "confirmed"),
        (1.0, 1.0, "confirmed in part"),
        (2.0, 2.0, "confirmed in part"),
        (1.0, 2.0, "refuted"),
        (None, 1.0, "not judged"),
        (2.0, None, "not judged"),
    ],
)
def test_the_verdict_is_by_what_is_surely_faster(
    weights: float | None, channels: float | None, verdict: str
) -> None:
    found = [point("whole", 2.0)]
    found += [] if weights is None else [point("weights", weights)]
    found += [] if channels is None else [point("channels", channels)]
    shown = finding(found)
    assert shown["verdict"] == verdict
    assert (f"is {verdict} on this machine" in " ".join(shown["text"])) == (verdict != "not judged")


def test_a_gain_that_noise_could_be_is_not_sure() -> None:
    gains = finding([point("whole", 2.0, width=0.1), point("weights", 1.8, width=0.1)])["gains"]
    assert (gains["weights"]["surely_faster"], gains["weights"]["surely_slower"]) == (0, 0)
    gains = finding([point("whole", 1.0), point("weights", 2.0)])["gains"]
    assert gains["weights"]["surely_slower"] == 1


def test_a_restless_machine_is_told() -> None:
    points = [
        point("whole", 2.0),
        point("channels", 1.0, wide=True, threads=2),
        point("whole", 2.0, threads=2),
    ]
    last = finding(points)["text"][-1]
    assert last.startswith("The machine was restless: the latencies of 1 of 3 points, of threads 2, stayed")
    assert "restless" not in " ".join(finding(points[:1])["text"])


def test_points_with_a_reason_are_in_no_ratio_and_no_front() -> None:
    failed = {**point("channels", 1.0), "reason": "refused"}
    for name in ("accuracy", "latency_ms", "latency_ms_interval", "size_bytes"):
        del failed[name]
    points = [
        failed,
        point("whole", 2.0),
        point("weights", 1.5, 0.8),
        point("weights", 3.0, 0.7, strength=0.7),
    ]
    assert set(finding(points)["gains"]) == {"weights"}
    by = {front["by"]: front["points"] for front in fronts(points)}
    assert by["latency_ms"] == [2, 1], "of the least latency first; the third is beaten by both"
    assert by["size_bytes"] == [1]
    assert finding([failed])["text"] == []
