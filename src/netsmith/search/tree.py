"""The controller of path-level EAS (Cai et al. 2018): a policy over trees that REINFORCE moves."""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Sequence
from heapq import nlargest
from random import Random

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.search.searcher import Allowed, Draw, fresh, values
from netsmith.search.tree_policy import HEAD, HIDDEN, Decision, Step, TreePolicy
from netsmith.spaces.tree import TreeSpace
from netsmith.trial import Trial

# Of the release.
ENTROPY, BATCH, MOST_GRADIENT, BASELINE_RATE = 0.01, 10, 40.0, 0.95
# Ours: the release's 6e-3, and advantages as they come, settle on a tree before there is a good one.
RATE, BEST = 3e-3, 5
NEAR = 0.9
_LEAST = 0.1  # what is added to the probability of a step: a policy that is sure of itself may be wrong
_FAILED = 0.1  # what is left of a step's chance where it made a tree worse
_RETRIES = 20


class TreeController:
    """Asks for trees by a learned policy, and for the best trees with one decision changed.

    The reward is tan(pi/2 * (1 - figure)) of the one objective, an error in 0..1, as published; 0 of a trial
    that failed, and of a tree that is not ``allowed``. The first ``batch`` trees are drawn by the policy;
    then a share ``near`` are steps from one of the ``best`` so far: to another option at one place, by the
    policy's probabilities, a tenth of that where the option has made a tree worse there. In the place of a
    tree that is not allowed, or was asked for before, another is made, at last drawn by ``draw``.

    Every ``batch`` trials the policy makes one step of Adam: by REINFORCE over the trees that are no steps,
    advantages in standard deviations, their baseline following the mean reward; and by the likelihood of
    the best trees (priority queue training, Abolafia et al. 2018, section 2), without which a few hundred
    trials teach it little. The release only draws: on planted optima that is behind evolution.
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
        near: float = NEAR,
    ) -> None:
        self._space, self._draw, self._allowed = space, draw, allowed
        (self._objective,) = objectives
        self._rng = Random(seed)
        self._batch, self._entropy, self._most, self._near = batch, entropy, best, near
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = TreePolicy(hidden, head)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), rate)
        self._rewards: dict[Arch, float] = {}
        self._drawn: list[tuple[Arch, float]] = []
        self._recent: deque[float] = deque(maxlen=batch)
        self._baseline = 0.0
        self._steps: dict[Arch, tuple[Arch, Step]] = {}
        self._failures: Counter[Step] = Counter()
        self._read: dict[Arch, list[Decision]] = {}

    def ask(self) -> Arch:
        """Make a tree by the policy, or by a step from one of the best."""
        for _ in range(_RETRIES):
            from_best = len(self._rewards) >= self._batch and self._rng.random() < self._near
            parent = self._rng.choice(self._best) if from_best and self._best else None
            with torch.no_grad():
                arch, step = self._drawn_arch() if parent is None else self._stepped(parent)
            if arch not in self._rewards and self._allowed(arch):
                if step is not None:
                    self._steps[arch] = step
                return arch
            if step is None:
                self._drawn.append((arch, self._rewards.get(arch, 0.0)))
        return fresh(self._draw, self._rewards, self._rng)

    def tell(self, trial: Trial) -> None:
        """Remember the trial, and learn from as many as a batch has."""
        (figure,) = values(trial, (self._objective,))
        right = min(max(1.0 - figure, 0.0), 0.999) if math.isfinite(figure) else 0.0
        reward = self._rewards[trial.arch] = math.tan(math.pi / 2 * right)
        if trial.arch in self._steps:
            parent, step = self._steps[trial.arch]
            gain = reward - self._rewards[parent]
            self._failures[step] = 0 if gain > 0 else self._failures[step] + (gain < 0)
        else:
            self._drawn.append((trial.arch, reward))
        if len(self._rewards) % self._batch == 0:
            self._learn()
            self._drawn, self._read = [], {}

    @property
    def _best(self) -> list[Arch]:
        """The trees of the greatest rewards; the network as it is, all 0, is none."""
        trees = (arch for arch in self._rewards if any(arch.choices))
        return nlargest(self._most, trees, key=self._rewards.__getitem__)

    def _drawn_arch(self) -> tuple[Arch, None]:
        """A tree that the policy draws."""
        return self._space.arch_of(self.policy.draw(self._space.depth, self._rng).tree), None

    def _stepped(self, parent: Arch) -> tuple[Arch, tuple[Arch, Step]]:
        """A tree that is one step from another, that one, and the step."""
        tree = self._space.tree(parent)
        assert tree is not None
        if parent not in self._read:
            self._read[parent] = self.policy.read(self._space.depth, tree).decisions
        steps: dict[Step, float] = {}
        for each in self._read[parent]:
            for option, chance in enumerate(each.logs.exp().tolist()):
                step = (each.kind, each.place, option)
                if option != each.taken:
                    steps[step] = (_LEAST + chance) * _FAILED ** self._failures[step]
        (step,) = self._rng.choices(list(steps), list(steps.values()))
        made = self.policy.change(self._space.depth, tree, step, self._rng)
        return self._space.arch_of(made.tree), (parent, step)

    def _learn(self) -> None:
        self._recent.extend(reward for _, reward in self._drawn)
        if self._drawn:
            mean = statistics.mean(reward for _, reward in self._drawn)
            self._baseline += BASELINE_RATE * (mean - self._baseline)
        spread = (statistics.pstdev(self._recent) if self._recent else 0.0) or 1.0
        best = self._best
        moved = [
            (arch, (reward - self._baseline) / spread / len(self._drawn)) for arch, reward in self._drawn
        ]
        moved += [(arch, 1 / len(best)) for arch in best]
        loss = torch.zeros(())
        for arch, weight in moved:
            node = self._space.tree(arch)
            if node is not None:
                made = self.policy.read(self._space.depth, node)
                loss = loss - weight * made.likelihood - self._entropy * made.entropy / len(moved)
        if not loss.requires_grad:
            return
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.policy.parameters(), MOST_GRADIENT)
        self._optimizer.step()
