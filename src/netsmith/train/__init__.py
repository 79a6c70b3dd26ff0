"""Training a module by a recipe, evaluating it, and re-estimating its batch-norm statistics."""

from netsmith.train.evaluate import Batches, Evaluation, evaluate, recalibrate
from netsmith.train.hardware import fastest_precision, fastest_threads, place
from netsmith.train.loop import Mix, train
from netsmith.train.progress import EpochFigures, TrainResult
from netsmith.train.recipe import Recipe, fit_recipe, trainable_macs

__all__ = [
    "Batches",
    "EpochFigures",
    "Evaluation",
    "Mix",
    "Recipe",
    "TrainResult",
    "evaluate",
    "fastest_precision",
    "fastest_threads",
    "fit_recipe",
    "place",
    "recalibrate",
    "train",
    "trainable_macs",
]
