"""How far a training has come, epoch by epoch: what the caller sees, and what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """What an epoch came to.

    ``epoch`` counts from 1 to ``epochs``. ``train_loss`` is the mean of the recipe's own loss; ``loss`` (mean
    cross-entropy) and ``accuracy`` (share of 1) are of the validation part. ``lr`` is that of the last
    step, ``seconds`` the time since the training began, over all its starts.
    """

    epoch: int
    epochs: int
    train_loss: float
    accuracy: float
    loss: float
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The figures of all epochs, whether there was a roll-back, and the seconds over all starts."""

    figures: tuple[EpochFigures, ...]
    rolled_back: bool
    seconds: float

    @property
    def last(self) -> EpochFigures:
        """The figures of the weights that were kept."""
        return self.figures[-1]

    @property
    def best(self) -> EpochFigures:
        """The figures of the epoch with the highest validation accuracy."""
        return max(self.figures, key=lambda figures: figures.accuracy)


@dataclass(slots=True)
class Progress:
    """What moves with the epochs: how many are done, and what they came to."""

    done: int = 0
    rolled_back: bool = False
    seconds: float = 0.0
    figures: list[EpochFigures] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Progress:
        """Read :meth:`to_dict`'s values. Raises ``KeyError`` or ``TypeError`` on others."""
        figures = [EpochFigures(**item) for item in data["figures"]]
        return cls(int(data["done"]), bool(data["rolled_back"]), float(data["seconds"]), figures)

    def result(self) -> TrainResult:
        """Return the progress as the answer it has become."""
        return TrainResult(tuple(self.figures), self.rolled_back, self.seconds)


def differences(found: Any, wanted: Mapping[str, Any]) -> str:
    """Say in words where the job of a checkpoint is not the one that is wanted."""
    if not isinstance(found, Mapping):
        return f"{found!r:.100}"
    theirs, mine = ({**job, **job.get("recipe", {})} for job in (dict(found), dict(wanted)))
    return ", ".join(
        f"{name} {theirs.get(name)!r:.50} instead of {value!r}"
        for name, value in mine.items()
        if name != "recipe" and theirs.get(name) != value
    )
