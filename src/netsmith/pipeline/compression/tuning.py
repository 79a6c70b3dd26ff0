"""Fine-tuning of a network for the precisions of its file, by straight-through gradients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from netsmith.compress.fake_quant import INPUT_QUANTIZER, at_levels, fake_quantized
from netsmith.compress.precision import LayerBits
from netsmith.nn.preprocess import Normalize
from netsmith.pipeline.compression.precisions import Precisions
from netsmith.pipeline.deliver import verify
from netsmith.pipeline.finish import (
    Finished,
    calibration_pixels,
    export_network,
    train_network,
    training_recipe,
)

SLOWER = 0.04  # of the rate that trains from nothing: about HAQ's 1e-3


def tuned(precisions: Precisions, best: Finished) -> Finished:
    """Return ``best`` with weights that were trained for its int8 layers, where its file is better for it.

    That is where its loss on validation images is less and the budget is kept as measured; otherwise it is
    ``best`` as it came. Ranges are those that the file has, the greatest of calibration images and of each
    channel's weights, and stay; weights are handed over at the levels that they learned. A training that was
    killed goes on from its checkpoint.
    """
    work = precisions.work
    assert best.arch is not None
    floating = precisions.space.floating(best.arch)
    layers = [name for name in precisions.shapes() if name not in floating]
    if not layers:
        work.progress.say("no layer is int8: there is nothing to fine-tune for")
        return best
    work.progress.stage("Fine-tuning for the precisions")
    base = precisions.base
    work.set_threads(base.plan or base.module)
    recipe = training_recipe(work, base.plan or base.module)
    # The file is judged by its cross-entropy, which smoothed labels would make greater.
    recipe = replace(recipe, lr=SLOWER * recipe.lr, label_smoothing=0.0)
    name = f"{best.name}-tuned"
    trained, outcome = train_network(work, name, None, recipe, start=_quantized(precisions, layers))
    module = at_levels(trained, base.module).eval()
    model = export_network(work, module, name, floating=floating)
    network = replace(best, name=name, module=module, model=model, train_seconds=outcome.seconds)

    def compared() -> dict[str, Any]:
        loss, accuracy = precisions.judged(model)
        return {"loss": loss, "accuracy": accuracy, "before": precisions.outcome(floating).loss}

    found = work.once("tuned", compared)
    verified = work.once("verified", partial(verify, work, network, work.budget), name=name)
    better = found["loss"] < found["before"] and not verified["broken"]
    work.progress.say(
        f"fine-tuning brought the file's validation loss from {found['before']:.4g} to {found['loss']:.4g}"
        + ("" if better else ": it is left as it was")
    )
    return replace(network, validation_accuracy=found["accuracy"]) if better else best


def _quantized(precisions: Precisions, layers: list[str]) -> nn.Module:
    """The network with int8 layers as its file has them, ranges of inputs being what they are."""
    work = precisions.work
    images = Normalize(work.splits.mean, work.splits.std)(calibration_pixels(work))
    module = fake_quantized(
        precisions.base.module,
        dict.fromkeys(layers, LayerBits(8, 8)),
        [images],
        ranges="max",
        per_channel=True,
    )
    for name in layers:
        module.get_submodule(name).get_submodule(INPUT_QUANTIZER).requires_grad_(False)
    return module
