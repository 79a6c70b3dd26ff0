"""How the three phases of InstaNAS are run."""

from __future__ import annotations

from dataclasses import dataclass

from netsmith.errors import SettingsError


@dataclass(frozen=True, slots=True)
class InstanceRecipe:
    """How the three phases are run; the defaults are the release's for CIFAR.

    ``whole_share`` of the pre-training has all operations active; ``most_dropped`` are dropped at its end.
    ``controller_lr`` is divided by ten after each ``controller_lr_every`` epochs. ``exploration`` is alpha;
    ``right``, ``wrong`` and ``latency_exponent`` are those of :func:`netsmith.supernet.instanas.reward`.
    """

    pretrain_epochs: int = 164
    search_epochs: int = 500
    finetune_epochs: int = 300
    pretrain_lr: float = 0.01
    pretrain_decay: float = 1e-4
    whole_share: float = 0.5
    most_dropped: float = 0.5
    search_lr: float = 5e-4
    controller_lr: float = 5e-4
    controller_lr_every: int = 100
    exploration: float = 0.8
    entropy_weight: float = 0.8
    right: float = 30.0
    wrong: float = 0.0
    latency_exponent: float = 1.0
    finetune_lr: float = 1e-3
    finetune_decay: float = 4e-5
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if min(self.pretrain_epochs, self.search_epochs, self.finetune_epochs) < 0:
            raise SettingsError(f"epochs are 0 or more; got {self}")
        if self.controller_lr_every < 1:
            raise SettingsError(f"controller_lr_every is 1 or more; got {self.controller_lr_every}")
        if not 0.5 < self.exploration <= 1:
            raise SettingsError(
                f"exploration is over 0.5, where nothing is learned, up to 1; got {self.exploration}"
            )
        if not (0 <= self.most_dropped < 1 and 0 <= self.whole_share < 1):
            raise SettingsError(
                "most_dropped and whole_share are from 0 to under 1; got "
                f"{self.most_dropped} and {self.whole_share}"
            )
