"""The whole search: warm-up, alternating weight and architecture steps, pruning of paths, checkpoints.

The weights of one supernet may serve several devices: each has path probabilities of its own, which are moved
towards its own latency, and weight steps take their paths from each in turn.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F

from netsmith import checkpoint
from netsmith.arch import Arch
from netsmith.errors import TrainingError
from netsmith.nn.average import Average
from netsmith.nn.network import Network
from netsmith.nn.runtime import channels_last
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.aim import Aim
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.proxyless import weight_step
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.supernet import Supernet


class Batches(Protocol):
    """Batches of images whose order is a function of the epoch's number."""

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield x (N, C, H, W) and y (N,) of epoch ``number``."""

    def __len__(self) -> int:
        """How many batches an epoch has."""


LR_START = 0.05  # of the search: how long the rate rises
AVERAGE_SPAN = 0.08  # of the search: the steps that the average of the weights looks back over
AVERAGE_EVERY = 4  # steps: the average costs a pass over all weights


@dataclass(frozen=True, slots=True)
class SearchEpoch:
    """What one epoch of a search did for one of its aims; ``probabilities`` is one row an edge."""

    aim: int
    epoch: int
    phase: str
    loss: float
    arch_loss: float | None
    expected_ms: float
    multiplier: float
    entropy: float
    probabilities: list[list[float]]
    open_paths: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return asdict(self)


class ProxylessSearch:
    """Trains a supernet and, for each of ``targets``, path probabilities towards a latency.

    A target is a device's costs and the milliseconds to aim at; see :class:`netsmith.supernet.aim.Aim`.
    Everything random is a function of ``seed`` and the epoch, so that a search that was killed goes on from
    its last checkpoint to the same answer.
    """

    def __init__(
        self,
        space: ChainSpace,
        targets: Sequence[tuple[PathCosts, float]],
        recipe: SearchRecipe,
        seed: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.space = space
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(space, recipe.weights).to(self.device)
        channels_last(self.supernet)
        self.average = Average(self.supernet, 0.5)
        self.aims = [Aim(space, costs, target_ms, recipe, seed) for costs, target_ms in targets]
        self.optimizer = torch.optim.SGD(
            _decay_groups(self.supernet, recipe.weight_decay),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        self.finished_epochs = 0

    def run(
        self,
        train: Batches,
        validation: Batches,
        *,
        checkpoint_path: Path | None = None,
        on_epoch: Callable[[SearchEpoch], None] = lambda figures: None,
    ) -> None:
        """Search to the end, from ``checkpoint_path`` where it holds an unfinished search.

        ``on_epoch`` hears of every aim. Weights learn from ``train``, alpha from ``validation``. Raises
        :class:`TrainingError` where the loss is not a number.
        """
        if checkpoint_path is not None and checkpoint_path.exists():
            self._restore(checkpoint_path)
        span = AVERAGE_SPAN * len(train) * self.recipe.epochs / AVERAGE_EVERY
        self.average.decay = span / (span + 1)
        steps = len(train) * (self.recipe.epochs - self.recipe.warmup_epochs) // self.recipe.alpha_every
        for aim in self.aims:
            aim.plan_steps(steps)
        while self.finished_epochs < self.recipe.epochs:
            figures = self._epoch(train, validation)
            self.finished_epochs += 1
            if checkpoint_path is not None:
                self._save(checkpoint_path)
            for each in figures:
                on_epoch(each)

    def extract(self, arch: Arch) -> Network:
        """Return the network of ``arch`` with the average of the supernet's weights.

        Its batch-norm statistics were mixed with those of other paths: re-estimate them before use.
        """
        return cast(Supernet, self.average.module).extract(arch)

    def _epoch(self, train: Batches, validation: Batches) -> list[SearchEpoch]:
        """One epoch of weight steps, with architecture steps between them after the warm-up."""
        started, epoch, recipe = time.perf_counter(), self.finished_epochs, self.recipe
        warming = epoch < recipe.warmup_epochs
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        judged = _endless(validation, epoch * len(train))
        losses: list[float] = []
        arch_losses: list[list[float]] = [[] for _ in self.aims]
        self.supernet.train()
        for step, (x, y) in enumerate(train.epoch(epoch)):
            done = epoch * len(train) + step
            self._set_lr(done / (recipe.epochs * len(train)))
            arch = self.aims[done % len(self.aims)].paths.sample(generator)
            losses.append(weight_step(self.supernet, arch, self.optimizer, x, y, self._loss))
            self._check(losses[-1], step)
            if done % AVERAGE_EVERY == 0:
                self.average.update(self.supernet, done // AVERAGE_EVERY)
            if not warming and step % recipe.alpha_every == 0:
                for aim, found in zip(self.aims, arch_losses, strict=True):
                    found.append(aim.step(self.supernet, *next(judged), generator))
                    self._check(found[-1], step)
        if not warming and recipe.prune_below > 0:
            self._prune()
        return self._figures(warming, losses, arch_losses, time.perf_counter() - started)

    def _check(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the supernet's loss is {loss} in epoch {self.finished_epochs}, step {step}; "
                f"lower the search's lr (now {self.recipe.lr})"
            )

    def _loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)

    def _prune(self) -> None:
        """Drop the paths that are all but closed, and what none needs any more of weights and their state."""
        for aim in self.aims:
            aim.paths.prune(self.recipe.prune_below / aim.paths.open.shape[1])
        self._keep(self._open())

    def _open(self) -> list[list[int]]:
        """The candidates of each edge that some aim still has open."""
        either = torch.stack([aim.paths.open for aim in self.aims]).any(0)
        return [row.nonzero()[:, 0].tolist() for row in either]

    def _keep(self, kept: list[list[int]]) -> None:
        self.supernet.keep(kept)
        cast(Supernet, self.average.module).keep(kept)
        alive = set(self.supernet.parameters())
        for group in self.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p in alive]
        for parameter in set(self.optimizer.state) - alive:
            del self.optimizer.state[parameter]

    def _set_lr(self, progress: float) -> None:
        """Linear from next to nothing, then level."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * min(1.0, (progress + 1e-3) / LR_START)

    def _figures(
        self, warming: bool, losses: list[float], arch_losses: list[list[float]], seconds: float
    ) -> list[SearchEpoch]:
        found = []
        for number, (aim, of_aim) in enumerate(zip(self.aims, arch_losses, strict=True)):
            rows = zip(aim.paths.probabilities().tolist(), self.space.edges, strict=True)
            figures = SearchEpoch(
                aim=number,
                epoch=self.finished_epochs,
                phase="warm-up" if warming else "search",
                loss=sum(losses) / len(losses),
                arch_loss=sum(of_aim) / len(of_aim) if of_aim else None,
                expected_ms=aim.expected(),
                multiplier=aim.weight(),
                entropy=aim.paths.entropy(),
                probabilities=[row[: len(options)] for row, options in rows],
                open_paths=int(aim.paths.open.sum()),
                seconds=seconds,
            )
            found.append(figures)
        return found

    def _save(self, path: Path) -> None:
        names = {p: name for name, p in self.supernet.named_parameters()}
        tensors = {f"supernet.{k}": v for k, v in self.supernet.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{names[cast(torch.nn.Parameter, parameter)]}"] = state["momentum_buffer"]
        aims = []
        for number, aim in enumerate(self.aims):
            state, figures = aim.state()
            tensors |= {f"aim{number}.{k}": v for k, v in state.items()}
            aims.append(figures)
        meta = {"space": self.space.id, "finished_epochs": self.finished_epochs, "aims": aims}
        checkpoint.save(path, tensors, meta)

    def _restore(self, path: Path) -> None:
        tensors, meta = checkpoint.load(path)
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = value
        if len(meta["aims"]) != len(self.aims):
            raise TrainingError(
                f"{path} is of a search for {len(meta['aims'])} devices, not for {len(self.aims)}; run the "
                "command that began it"
            )
        for number, (aim, figures) in enumerate(zip(self.aims, meta["aims"], strict=True)):
            aim.restore(parts[f"aim{number}"], figures)
        self._keep(self._open())
        checkpoint.load_module(self.supernet, parts["supernet"])
        checkpoint.load_module(self.average.module, parts["average"])
        parameters = dict(self.supernet.named_parameters())
        for name, value in parts.get("momentum", {}).items():
            # In the parameter's own layout: another order of the same sums ends in other last bits.
            momentum = torch.empty_like(parameters[name]).copy_(value)
            self.optimizer.state[parameters[name]]["momentum_buffer"] = momentum
        self.finished_epochs = int(meta["finished_epochs"])


def _endless(batches: Batches, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Go round and round through ``batches``, beginning at epoch ``start``."""
    for number in count(start):
        yield from batches.epoch(number)


def _decay_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters, none for norms and biases."""
    weights = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
