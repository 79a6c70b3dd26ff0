"""The agent of AMC (He et al. 2018) and HAQ (Wang et al. 2019): DDPG over a walk of decisions.

One action in 0..1 is taken a step, and one reward is given at the end of the walk. Networks, replay and
updates are Stable-Baselines3's; episodes, exploration and what the reward becomes are the papers' own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from netsmith.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from stable_baselines3 import DDPG

HIDDEN = [300, 300]  # of actor and critic each, as both releases have them
ACTOR_RATE, CRITIC_RATE = 1e-4, 1e-3
TAU = 0.01  # how fast the target networks follow
BATCH = 64
SIGMA = 0.5  # of the exploration, in 0..1, in the first episode after the warm-up
BASELINE_RATE = 0.5  # of the moving average of a batch's mean reward

Actions = tuple[float, ...]


class Walk(Protocol):
    """A walk over decisions, one action in 0..1 a step; ``steps`` and ``features`` do not change."""

    @property
    def steps(self) -> int:
        """How many decisions a walk has."""

    @property
    def features(self) -> int:
        """How many numbers describe a step."""

    def state(self, actions: Sequence[float]) -> Sequence[float]:
        """Return the features, each in 0..1, of step ``len(actions)``, given the actions taken so far."""

    def bounded(self, actions: Sequence[float], action: float) -> float:
        """Return the action in 0..1 that is really taken for a proposed one; so budgets are kept."""

    def reward(self, actions: Sequence[float]) -> float:
        """Return the reward of a finished walk, of taken actions; greater is better."""


OnEpisode = Callable[[int, Actions, float], None]
"""Called after each episode with its number from 0, the actions taken and their reward."""


@dataclass(frozen=True)
class Found:
    """The best walk of a search, and the reward of every episode in turn."""

    actions: Actions
    reward: float
    rewards: tuple[float, ...]


def search_walk(
    walk: Walk,
    *,
    episodes: int,
    seed: int,
    shown: Sequence[Actions] = (),
    warmup: int | None = None,
    decay: float = 0.95,
    remembered: int = 100,
    repeatable: bool = True,
    on_episode: OnEpisode = lambda episode, actions, reward: None,
) -> Found:
    """Return the best of ``episodes`` walks that DDPG took, the first ``warmup`` of them at random.

    The very first are those ``shown``, such as simpler ways found: the agent learns of them too, and its
    answer is no worse.

    After the warm-up an action is a draw from the normal distribution around the actor's, truncated to 0..1,
    whose sigma begins at 0.5 and shrinks by ``decay`` an episode. The last ``remembered`` walks are replayed,
    as many batches after an episode as it had steps. AMC has 800 episodes, 100 of them warm-up, a decay of
    0.95 and remembers 100; HAQ 600, 20, 0.99 and 64 (128 steps a layer, two steps each). The default
    ``warmup`` is AMC's eighth. A ``repeatable`` walk whose taken actions come again is not rewarded anew.

    The same seed gives the same walks; the random numbers of others are left as they are. Raises
    :class:`SettingsError` on settings out of range and on a walk that breaks its promises, and
    :class:`MissingExtraError` without Stable-Baselines3.
    """
    warmup = max(1, episodes // 8) if warmup is None else warmup
    _check(walk, episodes, warmup, decay, remembered)
    agent = _Agent(walk, seed, remembered)
    known: dict[Actions, float] = {}
    best: tuple[Actions, float] | None = None
    rewards = []
    for episode in range(episodes):
        sigma = None if episode < warmup else SIGMA * decay ** (episode - warmup)
        states, proposed, taken = agent.take(sigma, shown[episode] if episode < len(shown) else None)
        key = tuple(round(action, 6) for action in taken)
        reward = known[key] if repeatable and key in known else _rewarded(walk, taken)
        known[key] = reward
        agent.remember(states, proposed, reward)
        if sigma is not None:
            agent.learn()
        if best is None or reward > best[1]:
            best = (taken, reward)
        rewards.append(reward)
        on_episode(episode, taken, reward)
    assert best is not None  # there is at least one episode
    return Found(*best, tuple(rewards))


class _Agent:
    """Actor, critic and replay, with random numbers of their own."""

    def __init__(self, walk: Walk, seed: int, remembered: int) -> None:
        self._walk = walk
        self._rng = np.random.default_rng(seed)
        self._random = _OwnRandomness(seed)
        with self._random.in_place():
            self._ddpg = _ddpg(walk.features, remembered * walk.steps)

    def take(
        self, sigma: float | None, shown: Actions | None = None
    ) -> tuple[list[Sequence[float]], list[float], Actions]:
        """Walk once, as ``shown`` or else at random where ``sigma`` is None.

        Returns states, proposed and taken actions.
        """
        states: list[Sequence[float]] = []
        proposed: list[float] = []
        taken: list[float] = []
        for step in range(self._walk.steps):
            states.append(_described(self._walk, tuple(taken)))
            if shown is not None:
                action = shown[step]
            else:
                action = float(self._rng.random()) if sigma is None else self._explored(states[-1], sigma)
            proposed.append(action)
            taken.append(_bounded(self._walk, tuple(taken), action, step))
        return states, proposed, tuple(taken)

    def remember(self, states: Sequence[Sequence[float]], proposed: Sequence[float], reward: float) -> None:
        """Put a walk into the replay, every step with the reward of the whole.

        As published an action is remembered as it was proposed: what bounds make of it is the world's affair.
        """
        for step, (state, action) in enumerate(zip(states, proposed, strict=True)):
            last = step + 1 == len(states)
            self._ddpg.replay_buffer.add(
                np.asarray([state], np.float32),
                np.asarray([state if last else states[step + 1]], np.float32),
                np.asarray([[2 * action - 1]], np.float32),
                np.asarray([reward]),
                np.asarray([last]),
                [{}],
            )

    def learn(self) -> None:
        """Make one update of actor and critic for each step of a walk."""
        with self._random.in_place(), _one_thread():
            self._ddpg.train(self._walk.steps, BATCH)

    def _explored(self, state: Sequence[float], sigma: float) -> float:
        with torch.no_grad(), _one_thread():
            (squashed,) = self._ddpg.actor(torch.tensor([state], dtype=torch.float32)).flatten().tolist()
        return truncated_normal(self._rng, (squashed + 1) / 2, sigma)


class _OwnRandomness:
    """The states that Python's, NumPy's and PyTorch's global generators have while the agent works.

    Stable-Baselines3 draws from these. It is given no seed, with which it would seed a GPU's generator too.
    """

    def __init__(self, seed: int) -> None:
        self._states = (
            random.Random(seed).getstate(),
            np.random.RandomState(seed).get_state(),
            torch.Generator().manual_seed(seed).get_state(),
        )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put them in the place of what others use, and others' back at the end."""
        others = self._swapped(self._states)
        try:
            yield
        finally:
            self._states = self._swapped(others)

    def _swapped(self, states: tuple[Any, Any, torch.Tensor]) -> tuple[Any, Any, torch.Tensor]:
        before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        return before


def truncated_normal(rng: np.random.Generator, mean: float, sigma: float) -> float:
    """Draw from the normal distribution around ``mean`` (in 0..1), truncated to 0..1."""
    sigma = max(sigma, 1e-12)
    low, high = ndtr((0 - mean) / sigma), ndtr((1 - mean) / sigma)
    drawn = mean + sigma * float(ndtri(low + rng.random() * (high - low)))
    return min(max(drawn, 0.0), 1.0)


def _ddpg(features: int, capacity: int) -> DDPG:
    """Return DDPG as published: tanh actions in -1..1 stand for the sigmoid's in 0..1, and gamma is 1.

    Its critic takes state and action side by side, which is the sum of two embeddings of the releases.
    """
    from gymnasium.spaces import Box
    from stable_baselines3 import DDPG
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    class Baselined(ReplayBuffer):  # type: ignore[misc]
        """Takes the moving average of the rewards of batches from those of each batch."""

        average: float | None = None

        def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
            batch = super().sample(batch_size, env)
            mean = float(batch.rewards.mean())
            self.average = mean if self.average is None else self.average
            self.average += BASELINE_RATE * (mean - self.average)
            return batch._replace(rewards=batch.rewards - self.average)

    class TwoRates(DDPG):  # type: ignore[misc]
        """Leaves actor and critic the rates that they were given; DDPG has one for both."""

        def _update_learning_rate(self, optimizers: Any) -> None:
            return

    agent = TwoRates(
        "MlpPolicy",
        None,
        buffer_size=capacity,
        batch_size=BATCH,
        tau=TAU,
        gamma=1.0,
        replay_buffer_class=Baselined,
        policy_kwargs={"net_arch": HIDDEN},
        device="cpu",
        _init_setup_model=False,
    )
    # Episodes are not Gymnasium's here, so that the agent needs the spaces alone.
    agent.observation_space, agent.action_space, agent.n_envs = Box(0, 1, (features,)), Box(-1, 1, (1,)), 1
    agent._setup_model()
    agent.set_logger(Logger(None, []))
    for optimizer, rate in ((agent.actor.optimizer, ACTOR_RATE), (agent.critic.optimizer, CRITIC_RATE)):
        for group in optimizer.param_groups:
            group["lr"] = rate
    return agent


@contextmanager
def _one_thread() -> Iterator[None]:
    """Batches so small wait longer for a second thread than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _described(walk: Walk, actions: Actions) -> Sequence[float]:
    state = walk.state(actions)
    if len(state) != walk.features or not all(math.isfinite(value) for value in state):
        raise SettingsError(
            f"the walk describes step {len(actions)} by {list(state)!s:.200}; its features are "
            f"{walk.features} finite numbers in 0..1. Mend its state"
        )
    return state


def _bounded(walk: Walk, actions: Actions, action: float, step: int) -> float:
    taken = float(walk.bounded(actions, action))
    if not 0 <= taken <= 1:
        raise SettingsError(
            f"the walk makes {taken!r} of action {action:.4g} at step {step}; what is taken lies in 0..1. "
            "Mend its bounds, or allow it a budget that can be kept"
        )
    return taken


def _rewarded(walk: Walk, actions: Actions) -> float:
    reward = float(walk.reward(actions))
    if not math.isfinite(reward):
        raise SettingsError(
            f"the walk's reward is {reward}, of which nothing can be learned; a reward is a finite number. "
            "Give a walk that failed the reward of the worst"
        )
    return reward


def check_agent() -> None:
    """Raise :class:`MissingExtraError` without Stable-Baselines3."""
    if find_spec("stable_baselines3") is None:
        raise MissingExtraError("stable-baselines3", "compress", "learning to compress by DDPG")


def _check(walk: Walk, episodes: int, warmup: int, decay: float, remembered: int) -> None:
    check_agent()
    if min(walk.steps, walk.features, episodes, warmup, remembered) < 1 or not 0 < decay <= 1:
        raise SettingsError(
            "steps, features, episodes, warm-up and remembered walks are 1 or more, the decay is in 0..1; "
            f"got {walk.steps}, {walk.features}, {episodes}, {warmup}, {remembered} and {decay}"
        )
