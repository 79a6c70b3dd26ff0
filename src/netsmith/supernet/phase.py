"""Running the epochs of one phase of a training so that it can be stopped at any time, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from netsmith import checkpoint
from netsmith.errors import TrainingError

Figures = TypeVar("Figures")


def run_epochs(
    phase: str,
    epochs: int,
    epoch: Callable[[int], Figures],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    *,
    checkpoint_path: Path | None,
    on_epoch: Callable[[Figures], None],
) -> None:
    """Call ``epoch(number)`` for 0..epochs - 1, and ``on_epoch`` with what it returned.

    After each, ``modules`` and ``optimizers`` are written to ``checkpoint_path``; where that exists they are
    read first, and the epochs that it holds are not run again. What is random in an epoch must follow from
    its number. Raises :class:`TrainingError` where the file is another phase's.
    """
    finished = 0
    if checkpoint_path is not None and checkpoint_path.exists():
        finished = _restore(checkpoint_path, phase, modules, optimizers)
    for number in range(finished, epochs):
        figures = epoch(number)
        if checkpoint_path is not None:
            _save(checkpoint_path, phase, number + 1, modules, optimizers)
        on_epoch(figures)


def _save(
    path: Path,
    phase: str,
    finished: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    trees = {}
    for name, optimizer in optimizers.items():
        of_optimizer, trees[name] = checkpoint.pack(optimizer.state_dict(), f"optimizer.{name}")
        tensors |= of_optimizer
    checkpoint.save(path, tensors, {"phase": phase, "finished_epochs": finished, "optimizers": trees})


def _restore(
    path: Path, phase: str, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> int:
    tensors, meta = checkpoint.load(path)
    if meta.get("phase") != phase:
        raise TrainingError(
            f"{path} is of phase '{meta.get('phase')!s:.50}', not of '{phase}'; give each phase its own file"
        )
    for name, module in modules.items():
        start = f"{name}/"
        found = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        checkpoint.load_module(module, found)
    for name, optimizer in optimizers.items():
        checkpoint.load_optimizer(optimizer, checkpoint.unpack(meta["optimizers"][name], tensors))
    return int(meta["finished_epochs"])
