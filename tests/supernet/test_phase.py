"""Epochs run once each, and go on from a checkpoint with every bit of the modules and optimizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from netsmith.errors import FolderError, TrainingError
from netsmith.supernet.phase import run_epochs


class Descent:
    """Adam on a random quadratic of each epoch."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 2)
        self.adam = torch.optim.Adam(self.module.parameters(), lr=0.1)
        self.seen: list[int] = []

    def epoch(self, number: int) -> int:
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
        self.adam.zero_grad()
        self.module(x).square().mean().backward()
        self.adam.step()
        self.seen.append(number)
        return number

    def run(self, epochs: int, path: Path | None, phase: str = "descent") -> list[int]:
        told: list[int] = []
        run_epochs(
            phase, epochs, self.epoch, {"module": self.module}, {"adam": self.adam},
            checkpoint_path=path, on_epoch=told.append,
        )  # fmt: skip
        return told


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = Descent()
    assert whole.run(6, None) == [0, 1, 2, 3, 4, 5]
    for epochs, told in ((2, [0, 1]), (5, [2, 3, 4]), (6, [5]), (6, []), (3, [])):
        part = Descent()
        assert part.run(epochs, tmp_path / "file") == told == part.seen
    assert part.module.weight.equal(whole.module.weight)
    state, expected = part.adam.state[part.module.weight], whole.adam.state[whole.module.weight]
    assert all(torch.as_tensor(state[key]).equal(torch.as_tensor(expected[key])) for key in expected)


def test_an_epoch_that_fails_is_run_again(tmp_path: Path) -> None:
    class FailedError(Exception):
        pass

    part, whole = Descent(), Descent()
    whole.run(3, None)

    def fail(number: int) -> int:
        if number == 1:
            raise FailedError
        return part.epoch(number)

    with pytest.raises(FailedError):
        run_epochs(
            "descent", 3, fail, {"module": part.module}, {"adam": part.adam},
            checkpoint_path=tmp_path / "file", on_epoch=lambda number: None,
        )  # fmt: skip
    again = Descent()
    assert again.run(3, tmp_path / "file") == [1, 2]
    assert again.module.weight.equal(whole.module.weight)


def test_the_file_of_another_phase_or_module_is_refused(tmp_path: Path) -> None:
    Descent().run(1, tmp_path / "file")
    with pytest.raises(TrainingError, match="of phase 'descent', not of 'ascent'"):
        Descent().run(1, tmp_path / "file", "ascent")
    other = Descent()
    other.module = nn.Linear(4, 2)
    with pytest.raises(FolderError, match="do not fit the module"):
        other.run(1, tmp_path / "file")
