"""What a search moves towards: the path probabilities of one device, and what drives them to its latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from netsmith import checkpoint
from netsmith.arch import Arch
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import Multiplier, PathCosts, add_linear, mul_log, reward
from netsmith.supernet.paths import Paths
from netsmith.supernet.proxyless import Reinforce, gradient_step
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.supernet import Supernet

ALPHA_TRAVEL = 30.0
ALPHA_LR_LIMITS = (1e-3, 0.1)


class Aim:
    """Path probabilities over a supernet's candidates, and the latency that they are to expect.

    ``costs`` are those of the device's table in milliseconds; ``target_ms`` is what the expected latency
    moves to. Several aims may share one supernet.
    """

    def __init__(
        self, space: ChainSpace, costs: PathCosts, target_ms: float, recipe: SearchRecipe, seed: int
    ) -> None:
        self.costs, self.target_ms, self._recipe = costs, target_ms, recipe
        self.paths = Paths(space, torch.Generator().manual_seed(seed))
        self.paths.aim(costs, target_ms)
        # Beta 0: a path that was not sampled has no gradient and must not move on old momentum.
        self._optimizer = torch.optim.Adam(self.paths.parameters(), lr=1e-3, betas=(0.0, 0.999))
        self._multiplier = Multiplier(recipe.latency_weight)
        self._reinforce = Reinforce(recipe.samples)

    def plan_steps(self, steps: int) -> None:
        """Set the rate at which alpha moves, by how many steps there will be, where the recipe does not."""
        low, high = ALPHA_LR_LIMITS
        scaled = min(high, max(low, ALPHA_TRAVEL / max(1, steps)))
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.alpha_lr or scaled

    def step(self, supernet: Supernet, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> float:
        """Move alpha once, then the multiplier by where the expected latency now is; return the loss."""
        if self._recipe.update == "gradient":
            loss = gradient_step(
                supernet, self.paths, self._optimizer, x, y, self.costs, self._objective, generator
            )
        else:
            accuracy = self._reinforce.step(
                supernet, self.paths, self._optimizer, x, y, self._reward, generator
            )
            loss = 1 - accuracy
        self._multiplier.update(self.expected(), self.target_ms)
        return loss

    def expected(self) -> float:
        """Return the expected latency in milliseconds."""
        return float(self.costs.expected(self.paths.probabilities().detach()))

    def weight(self) -> float:
        """Return the weight of latency: fixed, or the multiplier that drives it to the target."""
        adaptive = self._recipe.latency_term == "adaptive"
        return self._multiplier.value if adaptive else self._recipe.latency_weight

    def _objective(self, cross_entropy: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        if self._recipe.latency_term == "mul":
            return mul_log(cross_entropy, expected, self.target_ms)
        return add_linear(cross_entropy, expected, self.target_ms, self.weight())

    def _reward(self, arch: Arch, accuracy: float) -> float:
        cost = self.costs.of_choices(arch.choices)
        if self._recipe.latency_term == "mul":
            return reward(accuracy, cost, self.target_ms)
        return accuracy - self.weight() * (cost - self.target_ms) / self.target_ms

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return what a checkpoint must hold of the aim: tensors, and figures as JSON-ready values."""
        tensors = {f"paths.{k}": v for k, v in self.paths.state_dict().items()}
        for key, value in self._optimizer.state.get(self.paths.alpha, {}).items():
            tensors[f"adam.{key}"] = torch.as_tensor(value)
        multiplier = [self._multiplier.integral, self._multiplier.value]
        return tensors, {"multiplier": multiplier, "baseline": self._reinforce.baseline}

    def restore(self, tensors: Mapping[str, torch.Tensor], figures: Mapping[str, Any]) -> None:
        """Take the place of the aim whose :meth:`state` these are."""
        parts: dict[str, dict[str, torch.Tensor]] = {"paths": {}, "adam": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        checkpoint.load_module(self.paths, parts["paths"])
        if parts["adam"]:
            self._optimizer.state[self.paths.alpha] = dict(parts["adam"])
        self._multiplier.integral, self._multiplier.value = figures["multiplier"]
        self._reinforce.baseline = figures["baseline"]
