"""The recipe: every setting of a training, and the recipe that fits a data set, a network and an effort."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from netsmith.errors import SettingsError, nearest

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("fp32", "bf16", "fp16")

# What a whole training may cost, in multiply-adds, by effort; see :func:`training_cost_macs`. One core does
# some 1.5e10 a second of a small MBConv network's training.
ALLOWANCE_MACS = {"quick": 8e12, "standard": 2.5e13, "thorough": 2e14}
# (fewest, most) epochs by effort: below, nothing is learned; above, nothing more.
EPOCH_RANGE = {"quick": (3, 25), "standard": (8, 120), "thorough": (20, 300)}
# What a network must see to be worth its size: each image so often, and so many in all.
TRAINED_PASSES = {"quick": 2, "standard": 6, "thorough": 15}
TRAINED_IMAGES = 100_000
# A step of a small network waits on Python, 20 ms of it: the multiply-adds that are not done meanwhile.
STEP_OVERHEAD_MACS = 3e8


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a module is trained.

    ``epoch_images`` is how many images an epoch takes, others every time; 0 for all. ``lr`` is the highest
    learning rate, reached after ``warmup_epochs`` and brought to zero along a half cosine. ``momentum`` and
    ``nesterov`` belong to ``"sgd"``. ``weight_decay`` acts on the weights of convolutions and linear layers,
    never on norms and biases. ``ema`` is the decay, a step, of the moving average of the weights that is
    evaluated and kept; 0 keeps the weights themselves. ``grad_clip`` limits the gradient's norm, 0 for no
    limit. ``distillation`` is the share of the loss that a teacher gives where there is one, at
    ``temperature`` (Hinton et al. 2015). ``group_lasso`` weighs, in the loss, what draws the weights of each
    group of a layer that condenses towards few inputs (Huang et al. 2018, section 3.2). What is done to the
    images is not a recipe's but the data's. Raises
    :class:`SettingsError` on a value out of its range.
    """

    epochs: int
    batch_size: int = 64
    epoch_images: int = 0
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.5
    label_smoothing: float = 0.1
    ema: float = 0.0
    dropout: float = 0.0
    grad_clip: float = 0.0
    distillation: float = 0.5
    temperature: float = 1.0
    group_lasso: float = 0.0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise SettingsError(f"a recipe's {name} must be a whole number of at least 1; got {count!r}")
        if type(self.epoch_images) is not int or self.epoch_images < 0:
            raise SettingsError(
                f"a recipe's epoch_images is a whole number from 0 up; got {self.epoch_images!r}"
            )
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise SettingsError(f"a recipe's {name} must be from {low:g} to {high:g}; got {value!r}")
        if self.lr == 0 or self.temperature == 0:
            raise SettingsError("a recipe's lr and temperature must be greater than zero")
        if self.warmup_epochs >= self.epochs:
            raise SettingsError(
                f"a recipe's warmup_epochs must be fewer than its epochs; got {self.warmup_epochs:g} "
                f"of {self.epochs}"
            )

    def passes(self, images: int) -> float:
        """Return how many times a training on ``images`` images sees each."""
        return self.epochs * (self.epoch_images or images) / images

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Read :meth:`to_dict`'s values. Raises :class:`SettingsError` on a setting that there is not."""
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise SettingsError(f"a recipe has no '{name}'{nearest(name, known)}; known: {known}")
        if "epochs" not in data:
            raise SettingsError("a recipe must say its 'epochs'")
        return cls(**data)


_RANGES = (
    ("lr", 0.0, 10.0), ("momentum", 0.0, 0.9999), ("weight_decay", 0.0, 1.0),
    ("warmup_epochs", 0.0, math.inf), ("label_smoothing", 0.0, 0.9), ("ema", 0.0, 0.99999),
    ("dropout", 0.0, 0.9), ("grad_clip", 0.0, 1e6),
    ("distillation", 0.0, 1.0), ("temperature", 0.0, 100.0),
    ("group_lasso", 0.0, 1.0),
)  # fmt: skip


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of ``step``, counted from 0 over the whole training.

    Linear from ``lr / w`` to ``lr`` over the ``w`` steps of the warm-up, then
    ``lr / 2 * (1 + cos(pi * t))`` with t from 0 to 1 over the rest (Loshchilov and Hutter 2017, eq. 5).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr / 2 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def training_cost_macs(epochs: int, batch_size: int, images: int, macs: int) -> float:
    """Return what a training costs, in multiply-adds, with each step's overhead as the work it displaces.

    ``images``: of the training part. ``macs``: of one image forward; the backward pass is twice that.
    """
    steps = epochs * math.ceil(images / batch_size)
    return 3.0 * macs * images * epochs + STEP_OVERHEAD_MACS * steps


def fit_recipe(
    images: int,
    macs: int,
    effort: str = "standard",
    *,
    epochs: int | None = None,
    precision: str = "fp32",
    share: float = 1.0,
) -> Recipe:
    """Return the recipe for ``images`` training images and a network of ``macs`` multiply-adds an image.

    The epochs are what the effort ("quick", "standard", "thorough") allows for, times ``share`` where several
    networks are trained for one answer; or those given. Where even the fewest would cost more, each takes
    as many images as it may, others every time. They follow from counts alone and never from a clock,
    so that a design repeated or resumed trains alike. Raises :class:`SettingsError`.
    """
    _check_choice("effort", effort, tuple(ALLOWANCE_MACS))
    if images < 1 or macs < 1 or not share > 0:
        raise SettingsError(
            f"a recipe needs images, macs and a share over zero; got {images} images, {macs} macs, "
            f"share {share}"
        )
    batch_size = fit_batch_size(images)
    epoch_images = 0
    if epochs is None:
        fewest, most = EPOCH_RANGE[effort]
        allowed = ALLOWANCE_MACS[effort] * share / training_cost_macs(1, batch_size, images, macs)
        epochs = int(min(most, max(fewest, allowed)))
        if allowed < fewest:
            epoch_images = max(min(images, batch_size), int(images * allowed / fewest))
    return Recipe(
        epochs,
        batch_size,
        epoch_images,
        lr=fit_lr(batch_size),
        warmup_epochs=min(2.0, epochs / 10),
        dropout=0.1 if epochs >= 20 else 0.0,  # what sees its images a few times does not learn them by heart
        precision=precision,
    )


def trainable_macs(images: int, effort: str) -> float:
    """Return the most multiply-adds of a network that ``effort`` can train on ``images`` images.

    A larger one would see too few of them, and end below a smaller one that saw more.
    """
    _check_choice("effort", effort, tuple(ALLOWANCE_MACS))
    return ALLOWANCE_MACS[effort] / (3 * max(TRAINED_IMAGES, TRAINED_PASSES[effort] * images))


def fit_batch_size(images: int) -> int:
    """Return the batch size for a training part of ``images`` images, so that an epoch has enough steps."""
    sizes = ((10_000, 32), (100_000, 64), (500_000, 128))
    return next((size for most, size in sizes if images < most), 256)


def fit_lr(batch_size: int) -> float:
    """Return the learning rate of SGD: 0.05 for 64 images a step and in proportion, at most 0.2.

    The linear rule of Goyal et al. 2017, section 2.1, stopped where a short warm-up no longer holds it.
    """
    return min(0.2, 0.05 * batch_size / 64)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingsError(
            f"unknown {name} {value!r}{nearest(str(value), known)}; known: {', '.join(known)}"
        )
