"""Strategies side by side: known figures give known volumes, ranks and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from netsmith.errors import SettingsError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compare import MARGIN, compared, rank_test, run_compare
from netsmith.pipeline.settings import Settings
from netsmith.report import write_comparison


def design(name: str, front: list[tuple[float, float]], judge: str = "supernet", **changes: Any) -> Design:
    result = {
        "space": "s", "judge": judge, "objectives": ["error", "macs"], "validation_accuracy": 0.9,
        "accuracy": 0.9, "latency_ms": 1.0, "size_bytes": 10, "budget_met": True, "total_seconds": 5.0,
        "front": [{"figures": {"error": e, "macs": m}} for e, m in front],
        **changes,
    }  # fmt: skip
    return Design(Path(name), result)


def test_the_volume_is_that_which_a_front_dominates_of_the_box_to_the_corner() -> None:
    found = compared({("a", 0): design("a", [(0.1, 4.0), (0.2, 2.0)]), ("b", 0): design("b", [(0.2, 4.0)])})
    corner = (0.2 * MARGIN, 4.0 * MARGIN)
    whole = corner[0] * corner[1]
    both = (corner[0] - 0.2) * (corner[1] - 2.0) + 0.1 * (corner[1] - 4.0)
    one = (corner[0] - 0.2) * (corner[1] - 4.0)
    assert [r["hypervolume"] for r in found["runs"]] == pytest.approx([both / whole, one / whole])


def test_what_was_judged_otherwise_is_not_compared_by_volume() -> None:
    """The errors of a training, all smaller, would else be the better front."""
    runs = {("a", 0): design("a", [(0.2, 2.0)]), ("b", 0): design("b", [(0.01, 2.0)], "training")}
    first, second = compared(runs)["runs"]
    assert first["hypervolume"] == pytest.approx(second["hypervolume"])


def test_means_and_spreads_are_those_of_the_seeds() -> None:
    runs = {("a", s): design("a", [(0.1, 1.0)], validation_accuracy=a) for s, a in enumerate((0.8, 0.9))}
    (summary,) = compared(runs)["strategies"]
    assert summary["validation_accuracy"] == pytest.approx({"mean": 0.85, "spread": 0.05 * 2**0.5})


def test_the_rank_test_is_friedman_s() -> None:
    """Three always in one order over n seeds: chi-square is 2 n, and p is exp(-n)."""
    found = rank_test({"a": [3.0, 5.0, 4.0], "b": [2.0, 4.0, 3.0], "c": [1.0, 3.0, 2.0]})
    assert found is not None
    assert found["mean_ranks"] == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert found["p"] == pytest.approx(2.718281828**-3)


def test_two_are_compared_by_signed_ranks_and_equals_do_not_differ() -> None:
    found = rank_test({"a": [0.5, 0.6, 0.7, 0.8, 0.9], "b": [0.4, 0.3, 0.2, 0.1, 0.0]})
    assert found is not None
    assert found["p"] == pytest.approx(2 / 2**5)
    same = rank_test({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    assert same is not None
    assert same["p"] == 1.0
    assert rank_test({"a": [1.0], "b": [2.0]}) is None
    assert rank_test({"a": [1.0, None], "b": [2.0, 3.0]}) is None


def test_every_strategy_runs_with_every_seed_and_has_a_page(
    small: Callable[..., Settings], images: Path, tmp_path: Path
) -> None:
    asked = {
        "data": str(images), "device": "fake", "latency": 0.06, "budget": "quick",
        "stages": ((16, 2, 1), (24, 1, 2)), "width": 0.5, "search_epochs": 1, "epochs": 1,
    }  # fmt: skip
    found = run_compare(asked, ["proxyless", "random"], 2, tmp_path)
    assert {(r["strategy"], r["seed"]) for r in found["runs"]} == set(
        product(("proxyless", "random"), (0, 1))
    )
    assert all(r["hypervolume"] > 0 for r in found["runs"])
    assert found == run_compare(asked, ["proxyless", "random"], 2, tmp_path), "what is there is read"
    write_comparison(tmp_path / "comparison.html", found, title="quarters on fake")
    page = (tmp_path / "comparison.html").read_text()
    assert "quarters on fake" in page
    assert "Hyper-volume of the fronts" in page


@pytest.mark.parametrize("strategies", [["random"], ["random", "random"]])
def test_fewer_than_two_are_refused(strategies: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="two strategies or more"):
        run_compare({"data": "digits"}, strategies, 1, tmp_path)
