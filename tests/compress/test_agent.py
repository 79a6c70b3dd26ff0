"""The agent finds planted walks that random search does not, keeps bounds, and leaves others' draws alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.stats import kstest, truncnorm

from netsmith.compress import agent as file
from netsmith.compress.agent import Actions, Found, search_walk, truncated_normal
from netsmith.errors import MissingExtraError, SettingsError


@dataclass
class Planted:
    """Every action has a best value; the reward is 1 at the best walk and falls by squared distance."""

    best: Sequence[float]
    levels: int = 0  # actions are rounded to so many, where not 0
    most: float = float("inf")  # that the actions may add up to
    rewarded: list[Actions] = field(default_factory=list)
    features: int = 3

    @property
    def steps(self) -> int:
        return len(self.best)

    def state(self, actions: Sequence[float]) -> Sequence[float]:
        step = len(actions)
        return [step / self.steps, float(step % 2), actions[-1] if actions else 0.0]

    def bounded(self, actions: Sequence[float], action: float) -> float:
        if self.levels:
            action = round(action * (self.levels - 1)) / (self.levels - 1)
        return max(0.0, min(action, self.most - sum(actions)))

    def reward(self, actions: Sequence[float]) -> float:
        self.rewarded.append(tuple(actions))
        random.random(), np.random.random(), torch.rand(1)  # as training a network would
        return 1 - sum((action - best) ** 2 for action, best in zip(actions, self.best, strict=True))


def found_at_random(walk: Planted, episodes: int, seed: int) -> float:
    rng = random.Random(seed)
    return max(walk.reward([rng.random() for _ in walk.best]) for _ in range(episodes))


@pytest.mark.parametrize("seed", range(2))
def test_it_comes_nearer_to_the_planted_walk_than_as_many_random_ones(seed: int) -> None:
    walk = Planted([0.1, 0.9] * 5)
    found = search_walk(walk, episodes=80, warmup=10, decay=0.93, seed=seed)
    at_random = found_at_random(walk, 80, seed)
    assert 1 - found.reward < 0.5 * (1 - at_random)
    # And it learned: the last walks are all better than the best at random, the first are not.
    assert np.mean(found.rewards[-10:]) > at_random > np.mean(found.rewards[:10])
    assert found.reward == max(found.rewards) == walk.reward(found.actions)


def test_walks_that_are_shown_come_first_within_bounds_and_may_be_the_answer() -> None:
    walk = Planted([0.2, 0.6], most=0.8)
    found = search_walk(walk, shown=[(0.9, 0.9), (0.2, 0.6)], episodes=3, warmup=1, seed=0)
    assert [pytest.approx(actions) for actions in walk.rewarded[:2]] == [(0.8, 0.0), (0.2, 0.6)]
    assert (found.actions, found.reward) == ((0.2, 0.6), pytest.approx(1.0))


def test_the_same_seed_gives_the_same_walks_whatever_others_draw() -> None:
    def search(seed: int) -> Found:
        return search_walk(Planted([0.3, 0.8, 0.1]), episodes=12, warmup=4, seed=seed)

    first = search(5)
    random.random(), np.random.random(), torch.rand(3)
    assert search(5) == first
    assert search(6) != first


def test_the_random_numbers_of_others_are_left_as_they_are() -> None:
    class Silent(Planted):
        def reward(self, actions: Sequence[float]) -> float:
            return -sum(actions)

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = (random.random(), np.random.random(), float(torch.rand(1)))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    search_walk(Silent([0.5, 0.5]), episodes=6, warmup=2, seed=0)
    assert (random.random(), np.random.random(), float(torch.rand(1))) == expected


def test_bounds_are_kept_in_every_walk_and_the_best_within_them_is_approached() -> None:
    """Of two decisions with the same best value, but room for one of them, the best is one half each."""
    walk = Planted([0.8, 0.8], most=0.8)
    taken: list[Actions] = []
    found = search_walk(
        walk,
        episodes=120,
        warmup=15,
        decay=0.96,
        seed=1,
        on_episode=lambda e, actions, r: taken.append(actions),
    )
    assert len(taken) == 120
    assert all(sum(actions) <= 0.8 + 1e-12 for actions in taken)
    assert found.reward == pytest.approx(1 - 2 * 0.4**2, abs=0.02)


def test_walks_that_were_rewarded_are_not_rewarded_again() -> None:
    walk = Planted([1.0, 0.0], levels=2)
    found = search_walk(walk, episodes=30, warmup=5, seed=0)
    assert sorted(set(walk.rewarded)) == sorted(walk.rewarded)
    assert (found.actions, found.reward) == ((1.0, 0.0), 1.0)
    again = Planted([1.0, 0.0], levels=2)
    assert search_walk(again, episodes=30, warmup=5, seed=0, repeatable=False) == found
    assert len(again.rewarded) == 30


def test_episodes_are_reported_as_they_end() -> None:
    seen: list[tuple[int, Actions, float]] = []
    walk = Planted([0.2, 0.4])
    found = search_walk(
        walk, episodes=5, warmup=2, seed=0, on_episode=lambda episode, a, r: seen.append((episode, a, r))
    )
    assert [episode for episode, _, _ in seen] == list(range(5))
    assert tuple(reward for _, _, reward in seen) == found.rewards
    assert [actions for _, actions, _ in seen] == walk.rewarded


def test_networks_rates_and_targets_are_the_published_ones() -> None:
    made = file._Agent(Planted([0.1, 0.2]), seed=0, remembered=100)
    made.remember([[0, 0, 0], [1, 1, 0]], [0.1, 0.2], 1.0)
    made.learn()  # Stable-Baselines3 sets the rates anew in each update
    ddpg = made._ddpg
    widths = [layer.out_features for layer in ddpg.actor.mu if isinstance(layer, torch.nn.Linear)]
    assert widths == [300, 300, 1]
    assert [group["lr"] for group in ddpg.actor.optimizer.param_groups] == [1e-4]
    assert [group["lr"] for group in ddpg.critic.optimizer.param_groups] == [1e-3]
    assert (ddpg.gamma, ddpg.tau, ddpg.replay_buffer.buffer_size) == (1.0, 0.01, 200)
    assert len(ddpg.critic.q_networks) == 1


def test_every_step_is_remembered_with_the_reward_of_the_walk_less_the_moving_average() -> None:
    """By hand: averages of batches of one reward are that reward; a second kind moves it by halves."""
    made = file._Agent(Planted([0.1, 0.2]), seed=0, remembered=1)
    made.remember([[0, 0, 0], [0.5, 1, 0.75]], [0.75, 0.25], 2.0)
    replay = made._ddpg.replay_buffer
    assert replay.rewards.flatten().tolist() == [2.0, 2.0]
    assert replay.actions.flatten().tolist() == [0.5, -0.5]
    assert replay.dones.flatten().tolist() == [0.0, 1.0]
    assert replay.next_observations[0].tolist() == replay.observations[1].tolist() == [[0.5, 1, 0.75]]
    assert replay.sample(8).rewards.unique().tolist() == [0.0]
    made.remember([[0, 0, 0], [0.5, 1, 0.75]], [0.75, 0.25], 6.0)  # the older walk is forgotten
    assert replay.sample(8).rewards.unique().tolist() == [2.0]  # 6 - (2 + 0.5 * 4)
    assert replay.sample(8).rewards.unique().tolist() == [1.0]


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 0.5), (0.0, 0.3), (0.95, 0.05), (1.0, 0.5)])
def test_draws_are_truncated_normal(mean: float, sigma: float) -> None:
    rng = np.random.default_rng(0)
    drawn = [truncated_normal(rng, mean, sigma) for _ in range(2000)]
    expected = truncnorm((0 - mean) / sigma, (1 - mean) / sigma, mean, sigma)
    assert kstest(drawn, expected.cdf).pvalue > 0.01


@pytest.mark.parametrize("mean", [0.0, 0.25, 1.0])
def test_without_spread_the_draw_is_the_mean(mean: float) -> None:
    assert truncated_normal(np.random.default_rng(0), mean, 0.0) == pytest.approx(mean, abs=1e-9)


def test_a_walk_that_breaks_its_promises_is_refused() -> None:
    class Endless(Planted):
        def reward(self, actions: Sequence[float]) -> float:
            return float("nan")

    class Unbounded(Planted):
        def bounded(self, actions: Sequence[float], action: float) -> float:
            return action - 5

    with pytest.raises(SettingsError, match="reward is nan"):
        search_walk(Endless([0.5]), episodes=2, seed=0)
    with pytest.raises(SettingsError, match="at step 0; what is taken lies in"):
        search_walk(Unbounded([0.5]), episodes=2, seed=0)
    with pytest.raises(SettingsError, match="features are 4"):
        search_walk(Planted([0.5], features=4), episodes=2, seed=0)


def test_settings_out_of_range_are_refused() -> None:
    for settings in ({"episodes": 0}, {"episodes": 5, "warmup": 0}, {"episodes": 5, "remembered": 0}):
        with pytest.raises(SettingsError, match="1 or more"):
            search_walk(Planted([0.5]), seed=0, **settings)
    with pytest.raises(SettingsError, match=r"and 1\.5"):
        search_walk(Planted([0.5]), episodes=5, seed=0, decay=1.5)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"netsmith\[compress\]"):
        search_walk(Planted([0.5]), episodes=2, seed=0)
