"""The formulas of InstaNAS, against closed forms and sums over every policy."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from netsmith.costs import Costs
from netsmith.errors import SettingsError
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed
from netsmith.supernet.instanas import Bounds, controller_loss, draw, explored, greedy, reward
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.instance_steps import Judge
from netsmith.supernet.routed import RoutedSupernet

SPACE = routed((3, 8, 8), 4, width=0.25, stages=[Stage(32, 2, 2)], mbconvs=[(3, 2)])
COSTS = Costs(1.0, [[2.0, 4.0], [8.0, 16.0]])
ALL = torch.tensor(list(product([False, True], repeat=4))).view(16, 2, 2)


def test_the_reward_is_a_parabola_between_the_bounds() -> None:
    latency = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 0.5, 6.0])
    right = reward(latency, torch.ones(7, dtype=torch.bool), 1.0, 5.0)
    torch.testing.assert_close(right, torch.tensor([0, 22.5, 30, 22.5, 0, 0, 0]))
    mixed = reward(
        latency[:3], torch.tensor([True, True, False]), 1.0, 5.0, right=2.0, wrong=-3.0, exponent=2.0
    )
    torch.testing.assert_close(mixed, torch.tensor([0.0, 2 * 0.75**2, -3.0]))


def test_the_published_bounds_by_hand() -> None:
    """The first edge begins a stage: its last operation, 4, is the least; first operations are 2 and 8."""
    bounds = Bounds.published(SPACE, COSTS)
    assert (bounds.lower_ms, bounds.first_upper_ms, bounds.last_upper_ms) == (
        1 + 4,
        1 + 0.7 * 30,
        1 + 0.5 * 10,
    )
    assert [bounds.upper_ms(epoch, 5) for epoch in range(5)] == pytest.approx([22, 18, 14, 10, 6])
    assert bounds.upper_ms(0, 1) == 22
    bent = Bounds.published(SPACE, COSTS._replace(bend=0.1))
    assert bent.lower_ms == pytest.approx(5 + 0.1 * 25)
    with pytest.raises(SettingsError, match="above the lower one; got 4 and 5 ms over 5 ms"):
        Bounds(5.0, 4.0, 5.0)


def test_exploration_keeps_probabilities_from_the_ends() -> None:
    logits = torch.tensor([-50.0, -math.log(3), 0.0, 50.0])
    torch.testing.assert_close(explored(logits, 0.8), torch.tensor([0.2, 0.8 * 0.25 + 0.2 * 0.75, 0.5, 0.8]))
    assert explored(logits, 1.0).log().isfinite().all()
    assert greedy(logits).tolist() == [False, False, True, True]
    drawn = draw(logits.expand(20000, 1, 4), 0.8, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.float().mean((0, 1)), explored(logits, 0.8), atol=0.02, rtol=0)


def test_the_entropy_term_leans_towards_few_operations() -> None:
    """-p log p is largest at 1 / e, where p' has no gradient."""
    p = (1 / math.e - 0.2) / 0.6
    logits = torch.full((1, 2, 2), math.log(p / (1 - p)), requires_grad=True)
    loss = controller_loss(logits, ALL[:1], torch.zeros(1), 0.8, 0.5)
    assert loss.item() == pytest.approx(-0.5 * 4 / math.e)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 2, 2), atol=1e-6, rtol=0)


def expected_reward(logits: torch.Tensor, rewards: torch.Tensor, exploration: float) -> torch.Tensor:
    """Of independent operations, over all 16 policies: (2, 2) and (16,) -> scalar."""
    p = exploration * logits.sigmoid() + (1 - exploration) * (1 - logits.sigmoid())
    chances = torch.where(ALL, p, 1 - p).flatten(1).prod(1)
    return (chances * rewards).sum()


@pytest.mark.parametrize("exploration", [0.8, 1.0])
def test_the_expected_gradient_is_that_of_the_expected_reward(exploration: float) -> None:
    """Rewards of a real supernet for every policy of an image; the baseline takes nothing away."""
    torch.manual_seed(0)
    supernet, x, y = RoutedSupernet(SPACE), torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    judge = Judge(supernet, COSTS, 0.0, 32.0, InstanceRecipe(wrong=-1.0))
    logits = torch.randn(3, 2, 2, requires_grad=True)
    rewards = torch.stack([judge(x[i].expand(16, -1, -1, -1), y[i].expand(16), ALL).reward for i in range(3)])
    assert len({round(r, 3) for r in rewards.flatten().tolist()}) > 6
    exact = torch.stack([expected_reward(logits[i], rewards[i], exploration) for i in range(3)]).mean()
    (wanted,) = torch.autograd.grad(exact, logits)

    best = judge(x, y, greedy(logits.detach())).reward
    got = torch.zeros_like(logits)
    p = explored(logits.detach(), exploration)
    for number in range(16):
        policies = ALL[number].expand(3, 2, 2)
        chances = torch.where(policies, p, 1 - p).flatten(1).prod(1)
        # Images are independent: each with the chance of its own policy.
        loss = controller_loss(logits, policies, chances * (rewards[:, number] - best), exploration, 0.0)
        got += torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(-got, wanted, rtol=1e-4, atol=1e-5)
