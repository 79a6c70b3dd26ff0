"""How a search is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netsmith.errors import SettingsError
from netsmith.supernet.supernet import Weights

Update = Literal["gradient", "reinforce"]
LatencyTerm = Literal["adaptive", "add", "mul"]


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """How a search is run; the published values where they carry over to a short search.

    ``epochs`` counts the warm-up of ``warmup_epochs``, in which alpha rests; where it is all there is, the
    supernet alone is trained.
    ``alpha_lr`` of None scales Adam's rate so that ``ALPHA_TRAVEL`` can be covered in the steps there are.
    ``lr`` is held after a short start: what the search hands over is the average of the weights, and a rate
    brought to zero would leave them where a training that goes on from them does not want to be.
    ``prune_below`` is the probability, as a share of a uniform one, under which a path leaves memory.
    """

    epochs: int
    warmup_epochs: int
    weights: Weights = "shared"
    update: Update = "gradient"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.1
    alpha_lr: float | None = None
    alpha_every: int = 5
    samples: int = 10
    latency_term: LatencyTerm = "adaptive"
    latency_weight: float = 0.1
    prune_below: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise SettingsError(
                f"a search of {self.epochs} epochs warms up for 0..{self.epochs}; "
                f"got warmup_epochs={self.warmup_epochs}"
            )
        if self.alpha_every < 1 or self.samples < 2:
            raise SettingsError(
                f"alpha_every is 1 or more and samples 2 or more; got {self.alpha_every} and {self.samples}"
            )
