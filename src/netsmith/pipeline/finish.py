"""Training a network of a design to its end, and proving what its exported file does."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.compress.weights import Sparse, Sparsity
from netsmith.data import Images, batch_generator, mix
from netsmith.devices.device import Device
from netsmith.devices.measure import Latency
from netsmith.nn.count import Counts, count, count_plan
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.pipeline.networks import spread, test_exported, worst_difference
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.plan import Plan
from netsmith.train import EpochFigures, Recipe, TrainResult, evaluate, fit_recipe, train

# Trained weights take the full learning rate at once, but for the few steps that momentum needs.
WARM_START_EPOCHS = 0.05
# The gradient's norm in a network without batch norms: nothing else holds back a step that is too long.
MOST_GRADIENT = 1.0
CALIBRATION_IMAGES = 256  # of the training part: what the ranges of an int8 file's activations are set by


@dataclass(frozen=True)
class Finished:
    """A trained network of a design with its exported file; ``module`` takes normalised images.

    ``plan`` is None of what is left of a network of the user's own. ``described`` is what ``arch.json`` must
    say of it beside its plan.
    """

    name: str
    kind: str
    plan: Plan | None
    arch: Arch | None
    module: nn.Module
    counts: Counts
    model: bytes
    validation_accuracy: float
    train_seconds: float
    described: Mapping[str, Any] = field(default_factory=dict)


def training_recipe(work: Work, network: Plan | nn.Module, asked: Settings | None = None) -> Recipe:
    """Return the recipe of the design's training, which its baselines share, or of one as ``asked``."""
    asked = work.settings if asked is None else asked
    macs = counts_of(work, network).macs
    whole = fit_recipe(len(work.splits.train), macs, asked.budget, epochs=asked.epochs)
    epochs = max(1, round(asked.share * whole.epochs))
    return replace(whole, epochs=epochs, warmup_epochs=min(whole.warmup_epochs, epochs / 10))


def counts_of(work: Work, network: Plan | nn.Module) -> Counts:
    """Count the network of a plan, or a module for the images of ``work``."""
    return count_plan(network) if isinstance(network, Plan) else count(network, work.splits.input_shape)


def finish(
    work: Work,
    name: str,
    kind: str,
    plan: Plan | None,
    recipe: Recipe,
    *,
    arch: Arch | None,
    start: nn.Module | None,
    teacher: nn.Module | None = None,
) -> Finished:
    """Train ``plan`` from ``start``'s weights, or from scratch where None, and export it.

    A network without a plan is the module ``start`` itself. Where there is a ``teacher``, it learns from that
    one's outputs too. A training that was killed goes on from its checkpoint.
    """
    module, outcome = train_network(work, name, plan, recipe, start=start, teacher=teacher)
    return Finished(
        name=name,
        kind=kind,
        plan=plan,
        arch=arch,
        module=module,
        counts=counts_of(work, module if plan is None else plan),
        model=export_network(work, module, name),
        validation_accuracy=outcome.last.accuracy,
        train_seconds=outcome.seconds,
    )


def train_network(
    work: Work,
    name: str,
    plan: Plan | None,
    recipe: Recipe,
    *,
    start: nn.Module | None,
    teacher: nn.Module | None = None,
    sparsity: Sparsity | None = None,
) -> tuple[nn.Module, TrainResult]:
    """Train ``plan`` from ``start``'s weights, which it changes, or from scratch; return it on the processor.

    Where there is a ``teacher``, it learns from that one's outputs too. Weights go meanwhile as ``sparsity``
    says, and are zeros in the end. A training that was killed goes on from its checkpoint.
    """
    module, recipe = _begun(work, plan, start, recipe)
    sparse = None if sparsity is None else Sparse(module, sparsity)
    splits = work.splits
    policy = work.policy(recipe.passes(len(splits.train)))
    mixes = policy.mixup > 0 or policy.cutmix > 0
    outcome = train(
        module if sparse is None else sparse,
        work.loader(splits.train, recipe.batch_size, policy=policy, salt=4, limit=recipe.epoch_images),
        work.loader(splits.validation, EVALUATION_BATCH, shuffle=False),
        recipe,
        seed=work.settings.seed,
        checkpoint=checkpoint_of(work, name),
        on_epoch=partial(_note, work, name, {r["epoch"] for r in work.journal.all("train_epoch", name=name)}),
        teacher=teacher,
        mix=partial(_mix, splits.classes, policy) if mixes else None,
    )
    if sparse is not None:
        sparse.fold()
    module.cpu().eval()
    return module, outcome


def checkpoint_of(work: Work, name: str) -> Path:
    """Return where the training of the network ``name`` is kept."""
    return work.folder.checkpoints / f"train-{name}.safetensors"


def _note(work: Work, name: str, written: set[int], figures: EpochFigures) -> None:
    """Tell of an epoch, and write it down once."""
    number = figures.epoch - 1  # the journal counts from 0
    if number not in written:
        work.journal.write(
            "train_epoch",
            name=name,
            epoch=number,
            loss=figures.train_loss,
            validation_loss=figures.loss,
            accuracy=figures.accuracy,
            lr=figures.lr,
            seconds=figures.seconds,
        )
    note = f"loss {figures.train_loss:.3f}, validation accuracy {figures.accuracy:.4f}"
    work.progress.update(figures.epoch, figures.epochs, note)


def _begun(
    work: Work, plan: Plan | None, start: nn.Module | None, recipe: Recipe
) -> tuple[nn.Module, Recipe]:
    """The module to train, and the recipe that suits where it begins."""
    if start is None:
        if plan is None:
            raise AssertionError("a network has a plan or weights to start from")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(work.settings.seed)
            return Network(plan), recipe
    recipe = replace(recipe, warmup_epochs=min(recipe.warmup_epochs, WARM_START_EPOCHS))
    if not any(isinstance(layer, _BatchNorm) for layer in start.modules()):
        recipe = replace(recipe, grad_clip=MOST_GRADIENT)
    return start, recipe


def deployable(work: Work, module: nn.Module) -> nn.Sequential:
    """Return the module with its preprocessing: pixels 0..255 (N, C, H, W) to logits (N, classes)."""
    return nn.Sequential(Normalize(work.splits.mean, work.splits.std), module).eval()


def report_figures(
    work: Work, network: Finished, latency: Latency, predicted_ms: float | None
) -> dict[str, Any]:
    """Return the figures of a finished network as they stand in ``result.json``. Reads the test part."""
    return {
        **proved_figures(work, network, work.splits.validation),
        "latency_ms": latency.median_ms,
        "latency_ms_spread": spread(latency),
        "latency_ms_predicted": predicted_ms,
    }


def proved_figures(work: Work, network: Finished, compared: Images) -> dict[str, Any]:
    """Return the figures of a finished network but its latency; the counts are those of its plan.

    Its file is ``compared`` to its module on some images, which are not of the test part. Raises
    :class:`netsmith.errors.ExportError` where it gives something else.
    """
    splits, device = work.splits, work.bench.device
    module = deployable(work, network.module)
    test = work.loader(splits.test, EVALUATION_BATCH, shuffle=False)
    exported = test_exported(device, network.model, splits.test)
    used = device.footprint(network.model)
    counts = network.counts
    return {
        "kind": network.kind,
        "arch": None if network.arch is None else network.arch.to_dict(),
        "params": counts.params,
        "macs": counts.macs,
        "size_bytes": len(network.model),
        "peak_bytes": used.peak_bytes,
        "activation_bytes": activation_bytes(counts, device.precision),
        "load_ms": used.load_ms,
        "energy_mj": used.energy_mj,
        "validation_accuracy": network.validation_accuracy,
        "accuracy": evaluate(network.module, test).accuracy,
        "accuracy_exported": exported.accuracy,
        "confusion": exported.confusion,
        "parity_worst": worst_difference(device, module, network.model, compared),
        "train_seconds": network.train_seconds,
    }


def broken_limits(budget: Budget, figures: Mapping[str, Any]) -> str:
    """Say which limits the measured ``figures`` break, or return ``""``."""
    return budget.broken({name: figures[name] for name in budget.limits() if figures.get(name) is not None})


def export_network(
    work: Work,
    module: nn.Module,
    name: str,
    device: Device | None = None,
    floating: Collection[str] = (),
) -> bytes:
    """Export for ``device``, or that of ``work``, with what a user of the file must know inside it.

    The layers ``floating``, by their names in ``module``, stay float32 on an int8 device.
    """
    splits = work.splits
    device = work.bench.device if device is None else device
    calibration = None
    if device.precision == "int8":
        calibration = calibration_pixels(work).numpy()
    return device.export(
        deployable(work, module),
        splits.input_shape,
        input_type="uint8",
        metadata=file_metadata(work, name, device),
        calibration=calibration,
        floating=[f"1.{layer}" for layer in floating],  # behind the preprocessing
    )


def calibration_pixels(work: Work) -> torch.Tensor:
    """Return the images (N, C, H, W) of the training part that ranges of activations are found by."""
    images = work.splits.train
    order = torch.randperm(len(images), generator=batch_generator(work.settings.seed, "calibration"))
    return images.fetch(order[:CALIBRATION_IMAGES])


def file_metadata(work: Work, name: str, device: Device) -> dict[str, str]:
    """Return what a user of the file must know, to be kept inside it."""
    return {
        "netsmith.network": name,
        "netsmith.labels": json.dumps(work.splits.label_names),
        "netsmith.input": json.dumps(input_description(work, device)),
    }


def input_description(work: Work, device: Device) -> dict[str, Any]:
    """Return what pixels a file takes that was exported for ``device``."""
    channels, height, width = work.splits.input_shape
    return {
        "layout": device.layout,
        "type": "uint8",
        "range": [0, 255],
        "channels": "RGB" if channels == 3 else "grey" if channels == 1 else channels,
        "height": height,
        "width": width,
    }


def _mix(
    classes: int, policy: Any, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    return mix(x, y, classes, policy, generator)
