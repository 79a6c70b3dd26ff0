"""Taking weights out of a network while it trains, the least first: single ones, or n of every m inputs.

Han et al. 2015, "Learning both weights and connections", with the gradual schedule of Zhu and Gupta 2017,
"To prune, or not to prune". What is left is a network of the same shapes with zeros in it: a smaller file
once it is packed, and as many multiply-adds as before for kernels that do not look for zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call

from netsmith.compress.slicing import is_depthwise
from netsmith.errors import CompressionError

Scope = Literal["network", "layer", "run"]
SCOPES: tuple[Scope, ...] = ("network", "layer", "run")
# The shares of a training between which weights go, and in how many steps: learning rates are then still high
# enough to mend what each took, which at the end of a half cosine they are not.
BEGIN, END, STEPS = 0.0, 0.6, 20


@dataclass(frozen=True, slots=True)
class Sparsity:
    """How many weights of a network go, a ``share`` of 0 to below 1, and what they are compared with.

    Scope ``"network"``: with all weights that may go; ``"layer"``: with those of their layer, each layer
    losing the same share; ``"run"``: with those of ``run`` neighbouring input channels at one place of one
    filter, each run losing as many, which is the pattern n:m with m = ``run`` and n = (1 - share) m. Raises
    :class:`CompressionError` on values that do not go together.
    """

    share: float
    scope: Scope = "network"
    run: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1 or self.scope not in SCOPES:
            raise CompressionError(
                f"weights are pruned by a share of 0 to below 1, in one scope of {', '.join(SCOPES)}; got "
                f"{self.share!r:.50} and {self.scope!r:.50}"
            )
        of_runs = self.scope == "run"
        if of_runs != (self.run > 0) or (
            of_runs and abs(self.share * self.run - round(self.share * self.run)) > 1e-9
        ):
            raise CompressionError(
                "a pattern n:m has runs of m inputs, of which a share goes that is a whole number of them; "
                f"got runs of {self.run} and a share of {self.share:g} in scope '{self.scope}'"
            )

    @classmethod
    def pattern(cls, kept: int, run: int) -> Sparsity:
        """Return the pattern ``kept``:``run``, such as 2:4. Raises :class:`CompressionError`."""
        if not 1 <= kept <= run:
            raise CompressionError(f"a pattern n:m keeps 1 to m of m inputs; got {kept}:{run}")
        return cls(1 - kept / run, "run", run)

    @property
    def name(self) -> str:
        """Such as ``75% of the network``, ``50% of each layer`` or ``2:4``."""
        if self.scope == "run":
            return f"{self.run - round(self.share * self.run)}:{self.run}"
        return f"{100 * self.share:g}% of {'the network' if self.scope == 'network' else 'each layer'}"


def scheduled(
    final: float, progress: float, *, begin: float = BEGIN, end: float = END, steps: int = STEPS
) -> float:
    """Return the share of weights that are gone when a share ``progress`` of the training, 0..1, is done.

    ``s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3`` with ``s_i = 0``, from ``begin`` to ``end`` of the
    training in n = ``steps`` steps (Zhu and Gupta 2017, eq. 1): fast at first, when much is redundant.
    """
    done = int(steps * (progress - begin) / (end - begin) + 1e-9)
    return final * (1 - (1 - min(max(done, 0), steps) / steps) ** 3)


def prunable(module: nn.Module, sparsity: Sparsity) -> dict[str, nn.Parameter]:
    """Return the weights of ``module`` that may go, by their names, in the order of its layers.

    Those of convolutions and linear layers but for depthwise ones and the first layer, which are few and
    matter much (Zhu and Gupta 2017, section 4.1). By runs, only where the inputs are whole runs. Raises
    :class:`CompressionError` where none are left.
    """
    layers = [
        (name, layer) for name, layer in module.named_modules() if type(layer) in (nn.Conv2d, nn.Linear)
    ]
    found = {
        f"{name}.weight" if name else "weight": layer.get_parameter("weight")
        for name, layer in layers[1:]
        if not is_depthwise(layer)
    }
    if sparsity.scope == "run":
        found = {name: weight for name, weight in found.items() if weight.shape[1] % sparsity.run == 0}
    if not found:
        whole = f" whose inputs are whole runs of {sparsity.run}" if sparsity.scope == "run" else ""
        raise CompressionError(
            f"the network has no convolution or linear layer behind the first{whole}, so that no weights can "
            "go"
        )
    return found


def kept_weights(
    weights: Sequence[torch.Tensor], kept: Sequence[torch.Tensor], sparsity: Sparsity, share: float
) -> list[torch.Tensor]:
    """Return which weights stay when ``share`` of them are gone, those of least magnitude first.

    ``weights`` are (out, in, ...) and ``kept`` booleans of their shapes: what is gone stays gone. By runs
    the count of each is rounded down.
    """
    scores = [w.detach().abs().masked_fill(~k, -1.0) for w, k in zip(weights, kept, strict=True)]
    if sparsity.scope == "run":
        lost = int(share * sparsity.run + 1e-9)
        return [_kept_of_runs(score, sparsity.run, lost) for score in scores]
    if sparsity.scope == "layer":
        return [score > _threshold([score], share) for score in scores]
    threshold = _threshold(scores, share)
    return [score > threshold for score in scores]


def _threshold(scores: Sequence[torch.Tensor], share: float) -> float:
    """The score up to which weights go, so that ``share`` of all do."""
    flat = torch.cat([score.flatten() for score in scores])
    lost = int(share * len(flat) + 1e-9)
    return float(flat.kthvalue(lost).values) if lost else -2.0


def _kept_of_runs(scores: torch.Tensor, run: int, lost: int) -> torch.Tensor:
    """Which of scores (out, in, ...) are not the ``lost`` least of ``run`` neighbouring inputs."""
    runs = scores.reshape(len(scores), scores.shape[1] // run, run, -1)
    gone = runs.argsort(dim=2, stable=True)[:, :, :lost]
    return torch.ones_like(runs, dtype=torch.bool).scatter_(2, gone, False).view(scores.shape)


class Sparse(nn.Module):
    """``network`` whose weights go as its training goes on: (N, C, H, W) -> what the network gives.

    The training loop tells it how far the training is, as it tells layers that condense
    (:class:`netsmith.nn.condense.Condenses`). What has gone counts as zero in every pass, whatever momentum
    and weight decay do to the number behind it. Which weights those are is held in buffers, so that
    checkpoints and averages hold it. :meth:`fold` then makes it true of ``network`` itself. Raises
    :class:`CompressionError` where there is nothing to prune.
    """

    def __init__(self, network: nn.Module, sparsity: Sparsity) -> None:
        super().__init__()
        self.network, self.sparsity = network, sparsity
        self.names = tuple(prunable(network, sparsity))
        for place, weight in enumerate(self._weights()):
            self.register_buffer(f"kept{place}", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(self.network, dict(self.masked_weights()), (x,))
        return out

    @torch.no_grad()
    def condense(self, progress: float) -> None:
        """Drop what is due when a share ``progress`` of the training, 0..1, is done; nothing twice."""
        share = scheduled(self.sparsity.share, progress)
        for kept, now in zip(
            self._kept(), kept_weights(self._weights(), self._kept(), self.sparsity, share), strict=True
        ):
            kept.copy_(now)

    def lasso(self) -> torch.Tensor:
        """Return 0: what goes is no group that a lasso could draw together."""
        return self._weights()[0].new_zeros(())

    def masked_weights(self) -> Mapping[str, torch.Tensor]:
        """Return the weights that may go as they count, those that are gone as zeros, by name."""
        pairs = zip(self.names, self._weights(), self._kept(), strict=True)
        return {name: weight * kept for name, weight, kept in pairs}

    @torch.no_grad()
    def fold(self) -> nn.Module:
        """Set what is gone to zero in ``network`` and return that."""
        for weight, kept in zip(self._weights(), self._kept(), strict=True):
            weight.mul_(kept)
        return self.network

    def _weights(self) -> list[nn.Parameter]:
        return [self.network.get_parameter(name) for name in self.names]

    def _kept(self) -> list[torch.Tensor]:
        return [self.get_buffer(f"kept{place}") for place in range(len(self.names))]


def share_of_zeros(module: nn.Module) -> float:
    """Return the share, 0..1, of the weights of convolutions and linear layers that are zero."""
    weights = [
        layer.get_parameter("weight")
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))
