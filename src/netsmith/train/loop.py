"""The training loop: randomness follows from (seed, epoch, step); every epoch is a place to go on from."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netsmith import checkpoint as files
from netsmith.errors import DataError, FolderError, TrainingError
from netsmith.nn.average import Average
from netsmith.nn.condense import condensing
from netsmith.nn.runtime import keep_memory
from netsmith.train.evaluate import Batches, device_of, evaluate
from netsmith.train.hardware import make_accelerator, place
from netsmith.train.objective import make_optimizer, objective
from netsmith.train.progress import EpochFigures, Progress, TrainResult, differences
from netsmith.train.recipe import Recipe, learning_rate

Mix = Callable[[torch.Tensor, torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]

ROLLBACK_SCALE = 0.3  # of the learning rate, after a loss that was not a number
_CHECK_STEPS = 50  # on a GPU, looking at the loss every step would stall it


def train(
    module: nn.Module,
    batches: Batches,
    validation: Batches,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochFigures], None] | None = None,
    teacher: nn.Module | None = None,
    mix: Mix | None = None,
) -> TrainResult:
    """Train ``module`` in place; it ends in evaluation mode with the last weights or their average.

    ``mix(x, y, generator) -> (x, shares)`` blends the images and labels of a batch (mixup, cutmix).
    ``teacher`` maps the same images to logits to learn from. Where ``checkpoint`` is a path, the state is
    written there after every epoch, and a training found there is gone on with: killed at any moment and
    started again, it ends in the same weights, bit for bit on one processor with the same threads.
    Dropout layers take the recipe's share, and layers that condense (:mod:`netsmith.nn.condense`) are told
    before each step how far the training is. ``on_epoch`` gets the figures of each epoch as it ends.

    A loss that is not a number rolls back to the last good epoch with the learning rate times 0.3, once.
    Raises :class:`TrainingError` when that does not help, :class:`DataError` on batches that hold too few
    images, :class:`FolderError` for a checkpoint that is damaged, not writable, or of another training.
    """
    home = device_of(module)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):  # the caller's random numbers are not ours to move
        trainer = _Trainer(module, batches, validation, recipe, seed, checkpoint, teacher, mix)
        try:
            return trainer.run(on_epoch)
        finally:
            trainer.release(home)


class _DivergedError(Exception):
    """A loss that is not a number, at an epoch (from 0) and a step of it."""

    def __init__(self, what: str, loss: float, epoch: int, step: int) -> None:
        super().__init__(f"the {what} loss was {loss} in epoch {epoch + 1}, step {step + 1}")


class _Trainer:
    """One training under way: what moves while it runs."""

    def __init__(
        self,
        module: nn.Module,
        batches: Batches,
        validation: Batches,
        recipe: Recipe,
        seed: int,
        path: Path | None,
        teacher: nn.Module | None,
        mix: Mix | None,
    ) -> None:
        self.batches, self.validation = batches, validation
        self.recipe, self.seed, self.path, self.mix = recipe, seed, path, mix
        self.accelerator = make_accelerator(recipe.precision)
        self.device: torch.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_memory()
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.module = place(module, self.device)
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = recipe.dropout
        self.condensing = condensing(module)
        self.average = Average(module, recipe.ema)
        self.teacher = None if teacher is None else copy.deepcopy(teacher).eval().to(self.device)
        self.raw_optimizer = make_optimizer(module, recipe)
        self.model: nn.Module = self.accelerator.prepare_model(module)
        self.optimizer: Any = self.accelerator.prepare_optimizer(self.raw_optimizer)
        self.job = {"recipe": recipe.to_dict(), "seed": seed, "steps_per_epoch": len(batches)}
        self.progress = Progress()

    def run(self, on_epoch: Callable[[EpochFigures], None] | None) -> TrainResult:
        """Train from the checkpoint, or from the start, to the last epoch."""
        if self.path is not None and self.path.exists():
            self._resume(self.path)
        good, progress = self._copy_of_state(), self.progress
        while progress.done < self.recipe.epochs:
            began = time.perf_counter()
            try:
                train_loss = self._train_epoch(progress.done)
                accuracy, loss = self._evaluate(progress.done)
            except _DivergedError as reason:
                self._roll_back(good, reason)
                continue
            finally:
                progress.seconds += time.perf_counter() - began
            lr = self._lr(progress.done, len(self.batches) - 1)
            progress.done += 1
            progress.figures.append(
                EpochFigures(
                    progress.done, self.recipe.epochs, train_loss, accuracy, loss, lr, progress.seconds
                )
            )
            good = self._copy_of_state()
            self._save()
            if on_epoch is not None:
                on_epoch(progress.figures[-1])
        self.module.load_state_dict(self.average.module.state_dict())
        self.module.eval()
        return progress.result()

    def release(self, home: torch.device) -> None:
        """Take Accelerate's wrapping off the module and put it back where it was."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        vars(self.module).pop("forward", None)  # what unwrapping leaves on the instance hides the class's own
        self.module.to(home)

    def _train_epoch(self, epoch: int) -> float:
        """Take every step of ``epoch``; return the mean loss. Raises :class:`_DivergedError`."""
        self.model.train()
        often = 1 if self.device.type == "cpu" and self.world == 1 else _CHECK_STEPS
        total, steps = torch.zeros((), device=self.device), 0
        for index, (x, y) in enumerate(self.batches.epoch(epoch)):
            if len(x) < 2 * self.world:
                continue  # one image has no batch statistics
            total += self._step(epoch, index, x, y)
            steps += 1
            if steps % often == 0:
                self._check("training", total, epoch, index)
        if steps == 0:
            raise DataError(
                f"there is nothing to train on: a batch needs at least {2 * self.world} images, two a process"
            )
        return self._check("training", total, epoch, index) / steps

    def _step(self, epoch: int, index: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Take one step; return its loss, which is still on the device."""
        torch.manual_seed(seed_of(self.seed, epoch, index, self.rank))
        if self.mix is not None:
            # All processes must blend alike before each takes its share, so not by rank.
            x, y = self.mix(x, y, torch.Generator().manual_seed(seed_of(self.seed, epoch, index)))
        mine = slice(len(x) * self.rank // self.world, len(x) * (self.rank + 1) // self.world)
        x = x[mine].to(self.device, memory_format=torch.channels_last)
        y = y[mine].to(self.device)
        for group in self.raw_optimizer.param_groups:
            group["lr"] = self._lr(epoch, index)
        self._condense(epoch, index)
        loss = objective(self.model(x).float(), y, self.recipe, self._teach(x))
        if self.recipe.group_lasso > 0 and self.condensing:
            loss = loss + self.recipe.group_lasso * sum(layer.lasso() for layer in self.condensing)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.recipe.grad_clip > 0:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self.optimizer.step()
        self.average.update(self.module, epoch * len(self.batches) + index)
        return loss.detach()

    def _condense(self, epoch: int, index: int) -> None:
        """Say what share of the steps before the last is done; a training of one step has done all."""
        steps, before_last = len(self.batches), self.recipe.epochs * len(self.batches) - 1
        for layer in self.condensing:
            layer.condense((epoch * steps + index) / before_last if before_last else 1.0)

    def _teach(self, x: torch.Tensor) -> torch.Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            logits: torch.Tensor = self.teacher(x)
        return logits.float()

    def _lr(self, epoch: int, index: int) -> float:
        steps = len(self.batches)
        scale = ROLLBACK_SCALE if self.progress.rolled_back else 1.0
        return scale * learning_rate(self.recipe, epoch * steps + index, steps)

    def _check(self, what: str, total: torch.Tensor, epoch: int, index: int) -> float:
        """Return the sum of losses, averaged over processes. Raises :class:`_DivergedError`."""
        mean = total if self.world == 1 else self.accelerator.reduce(total, "mean")
        if not math.isfinite(value := float(mean)):
            raise _DivergedError(what, value, epoch, index)
        return value

    def _evaluate(self, epoch: int) -> tuple[float, float]:
        """Return accuracy and loss of the average on the validation part. Raises :class:`_DivergedError`."""
        self.average.finish(self.module)
        if self.world > 1:
            # Batch norms saw other images in each process; those of the first are kept.
            from accelerate.utils import broadcast

            broadcast(list(self.average.module.state_dict().values()))
        evaluation = evaluate(self.average.module, self.validation)
        if not math.isfinite(evaluation.loss):
            raise _DivergedError("validation", evaluation.loss, epoch, len(self.batches) - 1)
        return evaluation.accuracy, evaluation.loss

    def _roll_back(self, good: Mapping[str, Any], reason: _DivergedError) -> None:
        if self.progress.rolled_back:
            raise TrainingError(
                f"training does not hold: {reason}, again after going back to the end of epoch "
                f"{self.progress.done} with {ROLLBACK_SCALE} of the learning rate {self.recipe.lr:g} of "
                f"{self.recipe.optimizer}. Check that the images hold no infinite or missing values, or "
                "train with a smaller lr, with grad_clip, or in fp32"
            ) from reason
        self._load_state(good)
        self.progress.rolled_back = True

    def _state(self) -> dict[str, Any]:
        state = {"module": self.module.state_dict(), "optimizer": self.raw_optimizer.state_dict()}
        if self.recipe.ema > 0:
            state["average"] = self.average.module.state_dict()
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        return state

    def _copy_of_state(self) -> dict[str, Any]:
        return copy.deepcopy(self._state())

    def _load_state(self, state: Mapping[str, Any]) -> None:
        files.load_module(self.module, state["module"])
        files.load_optimizer(self.raw_optimizer, state["optimizer"])
        if self.recipe.ema > 0:
            files.load_module(self.average.module, state["average"])
        self.average.finish(self.module)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _save(self) -> None:
        if self.path is not None and self.accelerator.is_main_process:
            tensors, tree = files.pack(self._state(), "state")
            meta = {"job": self.job, "state": tree, "progress": self.progress.to_dict()}
            files.save(self.path, tensors, meta)
        self.accelerator.wait_for_everyone()

    def _resume(self, path: Path) -> None:
        tensors, meta = files.load(path)
        try:
            if meta["job"] != self.job:
                raise FolderError(
                    f"the checkpoint {path} is of another training: it has "
                    f"{differences(meta['job'], self.job)}. Train with those settings, or "
                    "remove it to begin again"
                )
            progress = Progress.from_dict(meta["progress"])
            self._load_state(files.unpack(meta["state"], tensors))
            self.progress = progress
        except (KeyError, TypeError, ValueError) as error:
            raise FolderError(f"the checkpoint {path} is not one of a training ({error!r:.200})") from error


def seed_of(*numbers: int) -> int:
    """Return a 63-bit seed that is a function of ``numbers`` alone and alike for no two neighbours."""
    text = ",".join(str(number) for number in numbers).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
