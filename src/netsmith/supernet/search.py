"""The whole search: warm-up, alternating weight and architecture steps, pruning of paths, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
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
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import Multiplier, PathCosts, add_linear, mul_log, reward
from netsmith.supernet.paths import Paths
from netsmith.supernet.proxyless import Reinforce, gradient_step, weight_step
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.supernet import Supernet


class Batches(Protocol):
    """Batches of images whose order is a function of the epoch's number."""

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield x (N, C, H, W) and y (N,) of epoch ``number``."""

    def __len__(self) -> int:
        """How many batches an epoch has."""


ALPHA_TRAVEL = 30.0
ALPHA_LR_LIMITS = (1e-3, 0.1)
LR_START = 0.05  # of the search: how long the rate rises
AVERAGE_SPAN = 0.08  # of the search: the steps that the average of the weights looks back over
AVERAGE_EVERY = 4  # steps: the average costs a pass over all weights


@dataclass(frozen=True, slots=True)
class SearchEpoch:
    """What one epoch of a search did; ``probabilities`` is one row an edge."""

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
    """Trains a supernet and its path probabilities towards a latency.

    ``costs`` are those of the device's table in milliseconds; ``target_ms`` is what the expected latency
    moves to. Everything random is a function of ``seed`` and the epoch, so that a search that was killed
    goes on from its last checkpoint to the same answer.
    """

    def __init__(
        self,
        space: ChainSpace,
        costs: PathCosts,
        target_ms: float,
        recipe: SearchRecipe,
        seed: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.space, self.costs, self.target_ms = space, costs, target_ms
        self.recipe, self.seed, self.device = recipe, seed, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.supernet = Supernet(space, recipe.weights).to(self.device)
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.supernet, 0.5)
        self.paths = Paths(space, torch.Generator().manual_seed(seed))
        self.paths.aim(costs, target_ms)
        self.optimizer = torch.optim.SGD(
            _decay_groups(self.supernet, recipe.weight_decay),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        # Beta 0: a path that was not sampled has no gradient and must not move on old momentum.
        self.alpha_optimizer = torch.optim.Adam(self.paths.parameters(), lr=1e-3, betas=(0.0, 0.999))
        self.multiplier = Multiplier(recipe.latency_weight)
        self.reinforce = Reinforce(recipe.samples)
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

        Weights learn from ``train``, alpha from ``validation``. Raises :class:`TrainingError` where the loss
        is not a number.
        """
        if checkpoint_path is not None and checkpoint_path.exists():
            self._restore(checkpoint_path)
        span = AVERAGE_SPAN * len(train) * self.recipe.epochs / AVERAGE_EVERY
        self.average.decay = span / (span + 1)
        steps = len(train) * (self.recipe.epochs - self.recipe.warmup_epochs) // self.recipe.alpha_every
        low, high = ALPHA_LR_LIMITS
        scaled = min(high, max(low, ALPHA_TRAVEL / max(1, steps)))
        for group in self.alpha_optimizer.param_groups:
            group["lr"] = self.recipe.alpha_lr or scaled
        while self.finished_epochs < self.recipe.epochs:
            figures = self._epoch(train, validation)
            self.finished_epochs += 1
            if checkpoint_path is not None:
                self._save(checkpoint_path)
            on_epoch(figures)

    def extract(self, arch: Arch) -> Network:
        """Return the network of ``arch`` with the average of the supernet's weights.

        Its batch-norm statistics were mixed with those of other paths: re-estimate them before use.
        """
        return cast(Supernet, self.average.module).extract(arch)

    def _epoch(self, train: Batches, validation: Batches) -> SearchEpoch:
        """One epoch of weight steps, with architecture steps between them after the warm-up."""
        started, epoch, recipe = time.perf_counter(), self.finished_epochs, self.recipe
        warming = epoch < recipe.warmup_epochs
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        judged = _endless(validation, epoch * len(train))
        losses, arch_losses = [], []
        self.supernet.train()
        for step, (x, y) in enumerate(train.epoch(epoch)):
            done = epoch * len(train) + step
            self._set_lr(done / (recipe.epochs * len(train)))
            arch = self.paths.sample(generator)
            losses.append(weight_step(self.supernet, arch, self.optimizer, x, y, self._loss))
            self._check(losses[-1], step)
            if done % AVERAGE_EVERY == 0:
                self.average.update(self.supernet, done // AVERAGE_EVERY)
            if not warming and step % recipe.alpha_every == 0:
                arch_losses.append(self._arch_step(*next(judged), generator))
                self._check(arch_losses[-1], step)
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

    def _arch_step(self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> float:
        """Move alpha once, then the multiplier by where the expected latency now is."""
        if self.recipe.update == "gradient":
            loss = gradient_step(
                self.supernet, self.paths, self.alpha_optimizer, x, y, self.costs, self._objective, generator
            )
        else:
            accuracy = self.reinforce.step(
                self.supernet, self.paths, self.alpha_optimizer, x, y, self._reward, generator
            )
            loss = 1 - accuracy
        self.multiplier.update(self._expected(), self.target_ms)
        return loss

    def _objective(self, cross_entropy: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        if self.recipe.latency_term == "mul":
            return mul_log(cross_entropy, expected, self.target_ms)
        return add_linear(cross_entropy, expected, self.target_ms, self._weight())

    def _reward(self, arch: Arch, accuracy: float) -> float:
        cost = self.costs.of_choices(arch.choices)
        if self.recipe.latency_term == "mul":
            return reward(accuracy, cost, self.target_ms)
        return accuracy - self._weight() * (cost - self.target_ms) / self.target_ms

    def _weight(self) -> float:
        """The weight of latency: fixed, or the multiplier that drives it to the target."""
        adaptive = self.recipe.latency_term == "adaptive"
        return self.multiplier.value if adaptive else self.recipe.latency_weight

    def _expected(self) -> float:
        return float(self.costs.expected(self.paths.probabilities().detach()))

    def _prune(self) -> None:
        """Drop the paths that are all but closed, their weights and the optimiser's state of them."""
        uniform = 1 / self.paths.open.shape[1]
        self._keep(self.paths.prune(self.recipe.prune_below * uniform))

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
        self, warming: bool, losses: list[float], arch_losses: list[float], seconds: float
    ) -> SearchEpoch:
        rows = zip(self.paths.probabilities().tolist(), self.space.edges, strict=True)
        return SearchEpoch(
            epoch=self.finished_epochs,
            phase="warm-up" if warming else "search",
            loss=sum(losses) / len(losses),
            arch_loss=sum(arch_losses) / len(arch_losses) if arch_losses else None,
            expected_ms=self._expected(),
            multiplier=self._weight(),
            entropy=self.paths.entropy(),
            probabilities=[row[: len(options)] for row, options in rows],
            open_paths=int(self.paths.open.sum()),
            seconds=seconds,
        )

    def _save(self, path: Path) -> None:
        names = {p: name for name, p in self.supernet.named_parameters()}
        tensors = {f"supernet.{k}": v for k, v in self.supernet.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        tensors |= {f"paths.{k}": v for k, v in self.paths.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            if state.get("momentum_buffer") is not None:
                tensors[f"momentum.{names[cast(torch.nn.Parameter, parameter)]}"] = state["momentum_buffer"]
        for key, value in self.alpha_optimizer.state.get(self.paths.alpha, {}).items():
            tensors[f"adam.{key}"] = torch.as_tensor(value)
        meta = {
            "space": self.space.id,
            "finished_epochs": self.finished_epochs,
            "multiplier": [self.multiplier.integral, self.multiplier.value],
            "baseline": self.reinforce.baseline,
        }
        checkpoint.save(path, tensors, meta)

    def _restore(self, path: Path) -> None:
        tensors, meta = checkpoint.load(path)
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = value
        checkpoint.load_module(self.paths, parts["paths"])
        self._keep([row.nonzero()[:, 0].tolist() for row in self.paths.open])
        checkpoint.load_module(self.supernet, parts["supernet"])
        checkpoint.load_module(self.average.module, parts["average"])
        parameters = dict(self.supernet.named_parameters())
        for name, value in parts.get("momentum", {}).items():
            # In the parameter's own layout: another order of the same sums ends in other last bits.
            momentum = torch.empty_like(parameters[name]).copy_(value)
            self.optimizer.state[parameters[name]]["momentum_buffer"] = momentum
        if "adam" in parts:
            self.alpha_optimizer.state[self.paths.alpha] = dict(parts["adam"])
        self.finished_epochs = int(meta["finished_epochs"])
        self.multiplier.integral, self.multiplier.value = meta["multiplier"]
        self.reinforce.baseline = meta["baseline"]


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
