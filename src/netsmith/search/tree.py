"""The controller of path-level EAS (Cai et al. 2018): a policy over trees that REINFORCE moves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from random import Random

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.search.searcher import Allowed, Draw, fresh, values
from netsmith.search.tree_policy import HEAD, HIDDEN, Drawn, Given, TreePolicy
from netsmith.spaces.tree import TreeSpace
from netsmith.trial import Trial

# Of the release.
ENTROPY, BATCH, MOST_GRADIENT, BASELINE_RATE = 0.01, 10, 40.0, 0.95
# Ours: the release's 6e-3, and advantages as they come, settle on a tree before there is a good one.
RATE, BEST = 3e-3, 10
_RETRIES = 20


class TreeController:
    """Asks for trees by a learned policy.

    The reward is tan(pi/2 * (1 - figure)) of the one objective, an error in 0..1, as published; 0 of a trial
    that failed, and of a tree that is not ``allowed``. In the place of such a one, and of one asked for
    before, another is made, at last drawn by ``draw``; what is known of both is learned from. Every ``batch``
    trials the policy makes one step of Adam: by REINFORCE, advantages in standard deviations of the batch,
    their baseline following the mean reward first; and by the likelihood of the ``best`` trees so far
    (priority queue training, Abolafia et al. 2018, section 2), without which a few hundred trials teach it
    little.
    """

    def __init__(
        self,
        space: TreeSpace,
        draw: Draw,
        seed: int,
        *,
        allowed: Allowed = lambda arch: True,
        objectives: Sequence[str] = ("error",),
        hidden: int = HIDDEN,
        head: int = HEAD,
        rate: float = RATE,
        entropy: float = ENTROPY,
        batch: int = BATCH,
        best: int = BEST,
    ) -> None:
        self._space, self._draw, self._allowed = space, draw, allowed
        (self._objective,) = objectives
        self._rng = Random(seed)
        self._batch, self._entropy, self._best = batch, entropy, best
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = TreePolicy(hidden, head)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), rate)
        self._told: list[tuple[Arch, float]] = []
        self._besides: list[tuple[Arch, float]] = []
        self._rewards: dict[Arch, float] = {}
        self._baseline = 0.0

    def ask(self) -> Arch:
        """Make a tree by the policy."""
        for _ in range(_RETRIES):
            with torch.no_grad():
                node = self.policy.walk(self._space.depth, Drawn(self._rng)).tree
            if node is not None:
                arch = self._space.arch_of(node)
                if arch not in self._rewards and self._allowed(arch):
                    return arch
                self._besides.append((arch, self._rewards.get(arch, 0.0)))
        return fresh(self._draw, self._rewards, self._rng)

    def tell(self, trial: Trial) -> None:
        """Remember the trial, and learn from as many as a batch has."""
        (figure,) = values(trial, (self._objective,))
        right = min(max(1.0 - figure, 0.0), 0.999) if math.isfinite(figure) else 0.0
        self._told.append((trial.arch, math.tan(math.pi / 2 * right)))
        self._rewards[trial.arch] = self._told[-1][1]
        if len(self._told) == self._batch:
            self._learn()
            self._told, self._besides = [], []

    def _learn(self) -> None:
        rewards = [reward for _, reward in self._told]
        self._baseline += BASELINE_RATE * (statistics.mean(rewards) - self._baseline)
        best = sorted(self._rewards, key=lambda arch: -self._rewards[arch])[: self._best]
        spread = statistics.pstdev(rewards) or 1.0
        told = self._told + self._besides
        moved = [(arch, (reward - self._baseline) / spread / len(told)) for arch, reward in told]
        moved += [(arch, 1 / len(best)) for arch in best]
        loss = torch.zeros(())
        for arch, weight in moved:
            node = self._space.tree(arch)
            if node is not None:
                made = self.policy.walk(self._space.depth, Given(node))
                loss = loss - weight * made.likelihood - self._entropy * made.entropy / len(moved)
        if not loss.requires_grad:
            return
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.policy.parameters(), MOST_GRADIENT)
        self._optimizer.step()
