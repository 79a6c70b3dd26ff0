"""The three phases of InstaNAS (Cheng et al. 2018, section 3.3): pre-training, search and fine-tuning.

Weights learn from the training part, the controller from the validation part. What is random in an epoch
follows from the seed and its number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netsmith.costs import Costs
from netsmith.data.loader import batch_generator
from netsmith.supernet.instanas import Bounds, draw, greedy
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.instance_steps import Judge, controller_step, train_weights
from netsmith.supernet.phase import run_epochs
from netsmith.supernet.policies import archs_of, latencies_ms
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.search import LR_START, Batches


@dataclass(frozen=True, slots=True)
class InstanceEpoch:
    """What one epoch of a phase did.

    ``loss`` and ``train_accuracy`` (0..1) are of the weights' training; in the search the rest is of the
    controller's epoch before it, on validation images: ``accuracy`` (0..1), mean ``latency_ms`` and mean
    ``reward`` of the greedy policies, how many ``policies`` were among them, the mean ``entropy`` of p' in
    nats, and the upper bound. In fine-tuning latency and policies are of the training images.
    """

    phase: str
    epoch: int
    loss: float
    train_accuracy: float
    seconds: float
    accuracy: float | None = None
    latency_ms: float | None = None
    reward: float | None = None
    policies: int | None = None
    entropy: float | None = None
    upper_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return asdict(self)


OnEpoch = Callable[[InstanceEpoch], None]


def pretrain(
    supernet: RoutedSupernet,
    train: Batches,
    recipe: InstanceRecipe,
    seed: int,
    *,
    checkpoint_path: Path | None = None,
    on_epoch: OnEpoch = lambda figures: None,
) -> None:
    """Train the weights, first with every operation active, then with more and more dropped at random.

    For the first ``whole_share`` of the steps none is dropped; then each with a probability that rises to
    ``most_dropped``. The rate falls along a half cosine, where the release divides it by ten at half and at
    three quarters, so that little is learned of a short second part. Raises :class:`TrainingError` where the
    loss is not a number.
    """
    optimizer = _sgd(supernet, recipe.pretrain_lr, recipe.momentum, recipe.pretrain_decay)
    shape = (len(supernet.edges), len(supernet.space.edges[0]))

    def epoch(number: int) -> InstanceEpoch:
        started, steps = time.perf_counter(), count(number * len(train))
        generator = batch_generator(seed, "pretrain", number)

        def choose(x: torch.Tensor) -> torch.Tensor:  # once a step, before the weights move
            progress = next(steps) / (recipe.pretrain_epochs * len(train))
            _set_lr(
                optimizer, recipe.pretrain_lr * _cosine(progress) * min(1.0, (progress + 1e-3) / LR_START)
            )
            dropping = max(0.0, progress - recipe.whole_share) / (1 - recipe.whole_share)
            drawn = torch.rand(len(x), *shape, generator=generator)
            return (drawn >= recipe.most_dropped * dropping).to(x.device)

        loss, accuracy = train_weights(supernet, train, number, optimizer, choose)
        return InstanceEpoch("pretrain", number, loss, accuracy, time.perf_counter() - started)

    run_epochs(
        "pretrain", recipe.pretrain_epochs, epoch, {"supernet": supernet}, {"supernet": optimizer},
        checkpoint_path=checkpoint_path, on_epoch=on_epoch,
    )  # fmt: skip


def search(
    supernet: RoutedSupernet,
    controller: nn.Module,
    costs: Costs,
    bounds: Bounds,
    train: Batches,
    validation: Batches,
    recipe: InstanceRecipe,
    seed: int,
    *,
    until: int | None = None,
    checkpoint_path: Path | None = None,
    on_epoch: OnEpoch = lambda figures: None,
) -> None:
    """Alternate an epoch of the controller on ``validation`` with one of the weights on ``train``.

    In the latter each image takes a policy that was drawn for another of its batch, so that operations do
    not grow fast to the images that choose them now. The upper bound waits for the controller: it is no
    lower than the mean latency of the greedy policies before an epoch. Under a bound that hardly a policy
    keeps, as a short search soon has one, nothing is rewarded, and nothing learned. ``until`` stops after so
    many epochs, from where a call with the same checkpoint goes on: what it is at several upper bounds is a
    front. Raises :class:`TrainingError` where the loss is not a number.
    """
    adam = torch.optim.Adam(controller.parameters(), lr=recipe.controller_lr)
    sgd = _sgd(supernet, recipe.search_lr, 0.0, 0.0)  # plain in this phase, as published

    def epoch(number: int) -> InstanceEpoch:
        started, generator = time.perf_counter(), batch_generator(seed, "search", number)
        _set_lr(adam, recipe.controller_lr * 0.1 ** (number // recipe.controller_lr_every))
        taken = _taken_ms(controller, supernet, costs, validation.epoch(number))
        upper = max(taken, bounds.upper_ms(number, recipe.search_epochs))
        judge = Judge(supernet, costs, bounds.lower_ms, upper, recipe)
        steps = [
            controller_step(controller, adam, x, y, judge, generator) for x, y in validation.epoch(number)
        ]
        controller.eval()

        def choose(x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                policies = draw(controller(x), recipe.exploration, generator)
            return policies[torch.randperm(len(x), generator=generator).to(x.device)]

        loss, accuracy = train_weights(supernet, train, number, sgd, choose)
        outcomes = zip(*(outcome for outcome, _ in steps), strict=True)
        policies, correct, latency, earned = (torch.cat(parts) for parts in outcomes)
        return InstanceEpoch(
            "search", number, loss, accuracy, time.perf_counter() - started,
            accuracy=float(correct.float().mean()),
            latency_ms=float(latency.mean()),
            reward=float(earned.mean()),
            policies=len(set(archs_of(supernet.space, policies))),
            entropy=sum(entropy for _, entropy in steps) / len(steps),
            upper_ms=upper,
        )  # fmt: skip

    run_epochs(
        "search", recipe.search_epochs if until is None else min(until, recipe.search_epochs), epoch,
        {"supernet": supernet, "controller": controller}, {"supernet": sgd, "controller": adam},
        checkpoint_path=checkpoint_path, on_epoch=on_epoch,
    )  # fmt: skip


def finetune(
    supernet: RoutedSupernet,
    controller: nn.Module,
    costs: Costs,
    train: Batches,
    recipe: InstanceRecipe,
    *,
    checkpoint_path: Path | None = None,
    on_epoch: OnEpoch = lambda figures: None,
) -> None:
    """Train the weights along the greedy policies of a controller that no longer moves, the rate as a cosine.

    Raises :class:`TrainingError` where the loss is not a number.
    """
    optimizer = _sgd(supernet, recipe.finetune_lr, recipe.momentum, recipe.finetune_decay, nesterov=True)
    controller.eval()

    def epoch(number: int) -> InstanceEpoch:
        started, chosen = time.perf_counter(), []
        _set_lr(optimizer, recipe.finetune_lr * _cosine(number / recipe.finetune_epochs))

        def choose(x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                chosen.append(greedy(controller(x)))
            return chosen[-1]

        loss, accuracy = train_weights(supernet, train, number, optimizer, choose)
        policies = torch.cat(chosen)
        return InstanceEpoch(
            "finetune", number, loss, accuracy, time.perf_counter() - started,
            latency_ms=float(latencies_ms(supernet.space, costs, policies).mean()),
            policies=len(set(archs_of(supernet.space, policies))),
        )  # fmt: skip

    run_epochs(
        "finetune", recipe.finetune_epochs, epoch, {"supernet": supernet}, {"supernet": optimizer},
        checkpoint_path=checkpoint_path, on_epoch=on_epoch,
    )  # fmt: skip


@torch.no_grad()
def _taken_ms(
    controller: nn.Module,
    supernet: RoutedSupernet,
    costs: Costs,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """Return the mean latency in milliseconds of the greedy policies for all images of ``batches``.

    Found anew before each epoch, so that a search that was killed need not remember it.
    """
    controller.eval()
    chosen = torch.cat([greedy(controller(x)) for x, _ in batches])
    return float(latencies_ms(supernet.space, costs, chosen).mean())


def _sgd(
    supernet: RoutedSupernet, lr: float, momentum: float, weight_decay: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        supernet.parameters(),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov and momentum > 0,
    )


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
