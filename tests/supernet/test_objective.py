"""The expected latency is that of sampled archs, and the losses are those of the paper."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import Multiplier, PathCosts, add_linear, mul_log, reward
from netsmith.supernet.paths import Paths

ROWS = [[1.0, 2.0, 4.0], [0.5, 3.0], [2.0, 2.5, 0.0]]


@pytest.fixture
def paths() -> Paths:
    edges = tuple(
        tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(len(row)))
        for row in ROWS
    )
    paths = Paths(ChainSpace("chain", (), edges, ()), torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths.alpha.normal_(generator=torch.Generator().manual_seed(1))
    return paths


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_the_expected_cost_is_the_mean_over_all_archs(paths: Paths, bend: float) -> None:
    costs = PathCosts.of(0.75, ROWS, bend)
    mean = sum(
        math.exp(float(paths.log_probability(paths.space.arch(choices)).detach())) * costs.of_choices(choices)
        for choices in product(*(range(len(row)) for row in ROWS))
    )
    assert float(costs.expected(paths.probabilities()).detach()) == pytest.approx(mean, rel=1e-6)


def test_the_gradient_of_a_bent_expectation_is_that_of_the_mean_over_all_archs() -> None:
    costs = PathCosts.of(0.75, ROWS, 0.3)
    # Free numbers, so that the sum over archs is the expectation for probabilities alone: normalised here.
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    gradients = []
    for way in ("closed form", "brute force"):
        alpha = logits.clone().requires_grad_()
        p = alpha.masked_fill(mask, -torch.inf).softmax(1)
        if way == "closed form":
            value = costs.expected(p)
        else:
            value = sum(
                p[0, i] * p[1, j] * p[2, k] * costs.of_choices((i, j, k))
                for i, j, k in product(range(3), range(2), range(3))
            )
        value.backward()
        gradients.append(alpha.grad)
    assert torch.allclose(*gradients, rtol=1e-6, atol=1e-9)


def test_the_costs_of_some_candidates() -> None:
    costs = PathCosts.of(0.75, ROWS, 0.3).among(torch.tensor([[2, 0], [1, 1], [0, 2]]))
    assert costs.options.tolist() == [[4.0, 1.0], [3.0, 3.0], [2.0, 0.0]]
    assert (costs.constant, costs.bend) == (0.75, 0.3)


def test_the_expected_cost_is_the_mean_over_sampled_archs(paths: Paths) -> None:
    costs, generator = PathCosts.of(0.75, ROWS), torch.Generator().manual_seed(0)
    drawn = torch.tensor([costs.of_choices(paths.sample(generator).choices) for _ in range(3000)])
    error = float(drawn.std()) / math.sqrt(len(drawn))
    expected = float(costs.expected(paths.probabilities()).detach())
    assert abs(float(drawn.mean()) - expected) < 4 * error


def test_its_gradient_is_the_cost_of_each_candidate() -> None:
    costs = PathCosts.of(0.75, ROWS)
    p = torch.full((3, 3), 1 / 3, requires_grad=True)
    costs.expected(p).backward()
    assert p.grad is not None
    assert p.grad.tolist() == [[1.0, 2.0, 4.0], [0.5, 3.0, 0.0], [2.0, 2.5, 0.0]]


def test_the_cost_of_one_arch_by_hand() -> None:
    assert PathCosts.of(0.75, ROWS).of_choices((2, 1, 0)) == 0.75 + 4 + 3 + 2
    assert PathCosts.of(1.0, ROWS, 0.5).of_choices((2, 1, 0)) == 10 + 50


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_add_linear_in_closed_form() -> None:
    entropy, expected = scalar(1.5), scalar(3.0)
    loss = add_linear(entropy, expected, target=2.0, weight=0.1)
    assert float(loss.detach()) == pytest.approx(1.5 + 0.1 * (3 - 2) / 2)
    loss.backward()
    assert float(entropy.grad) == 1  # type: ignore[arg-type]
    assert float(expected.grad) == pytest.approx(0.1 / 2)  # type: ignore[arg-type]


def test_mul_log_in_closed_form() -> None:
    entropy, expected = scalar(1.5), scalar(3.0)
    loss = mul_log(entropy, expected, target=2.0)
    ratio = math.log(1500) / math.log(1000)
    assert float(loss.detach()) == pytest.approx(0.2 * 1.5 * ratio**0.3)
    loss.backward()
    by_hand = 0.2 * 1.5 * 0.3 * ratio**-0.7 / (3 * math.log(1000))
    assert float(expected.grad) == pytest.approx(by_hand)  # type: ignore[arg-type]
    assert float(mul_log(scalar(1.5), scalar(2.0), 2.0).detach()) == pytest.approx(0.2 * 1.5)


@given(st.floats(1e-3, 1e3), st.floats(0.1, 10.0))
def test_mul_log_is_the_same_in_every_unit(unit: float, expected: float) -> None:
    here = mul_log(scalar(1.0), scalar(expected), 1.0)
    there = mul_log(scalar(1.0), scalar(expected * unit), unit)
    assert float(here.detach()) == pytest.approx(float(there.detach()), rel=1e-9)


@given(st.floats(0.01, 1.0), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_reward_in_closed_form(accuracy: float, cost: float, target: float) -> None:
    assert reward(accuracy, cost, target) == pytest.approx(accuracy * (cost / target) ** -0.1)


@pytest.mark.parametrize("worth", [0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("target", [1.2, 1.5, 1.8])
def test_the_multiplier_leads_the_cost_to_the_target_whatever_accuracy_is_worth(
    worth: float, target: float
) -> None:
    """One choice p = sigmoid(a): a slow option that lowers the loss by ``worth``, at cost 1 + p."""
    a = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([a], lr=0.03, betas=(0.0, 0.999))
    multiplier, costs = Multiplier(), []
    for _ in range(3000):
        optimizer.zero_grad()
        cost = 1 + a.sigmoid()
        add_linear(-worth * a.sigmoid(), cost, target, multiplier.value).backward()
        optimizer.step()
        costs.append(1 + float(a.detach().sigmoid()))
        multiplier.update(costs[-1], target)
    assert sum(costs[-200:]) / 200 == pytest.approx(target, rel=0.03)


def test_the_multiplier_by_hand_and_within_its_limits() -> None:
    multiplier = Multiplier(0.1, rate=0.5, gain=2.0)
    assert multiplier.update(1.2, 1.0) == pytest.approx(0.1 * math.exp(0.5 * 0.2) * math.exp(2 * 0.2))
    for _ in range(1000):
        multiplier.update(9.0, 1.0)
    assert multiplier.integral == Multiplier.LIMITS[1]
    for _ in range(1000):
        multiplier.update(0.1, 1.0)
    assert multiplier.integral == Multiplier.LIMITS[0]
