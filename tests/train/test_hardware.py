"""Threads are chosen by what steps take, and all where it is not clear."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from netsmith.train import fastest_threads


@pytest.mark.parametrize(
    ("one_s", "all_s", "chosen"), [(1.0, 0.6, 4), (1.0, 1.0, 4), (1.0, 1.1, 4), (1.0, 1.5, 1), (0.1, 1.0, 1)]
)
def test_all_threads_but_where_one_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, one_s: float, all_s: float, chosen: int
) -> None:
    now, steps, before = [0.0], count(), torch.get_num_threads()

    def step() -> None:
        """Every fifth is held up, as by a neighbour."""
        seconds = one_s if torch.get_num_threads() == 1 else all_s
        now[0] += seconds * (10 if next(steps) % 5 == 0 else 1)

    monkeypatch.setattr("netsmith.train.hardware.time.perf_counter", lambda: now[0])
    assert fastest_threads(step, 4) == chosen
    assert torch.get_num_threads() == before


def test_a_machine_of_one_thread_has_no_choice() -> None:
    assert fastest_threads(lambda: None, 1) == 1
