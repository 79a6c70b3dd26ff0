"""Draws follow the probabilities, and pruning closes what it should."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.paths import Paths

MANY = 20_000
P = (0.6, 0.25, 0.1, 0.05)


def chain(*sizes: int) -> ChainSpace:
    edges = tuple(
        tuple(Block("mbconv", 8, 8, 4, 4, kernel=2 * i + 1, hidden=8) for i in range(n)) for n in sizes
    )
    return ChainSpace("chain", (), edges, ())


def paths_of(space: ChainSpace, *rows: tuple[float, ...]) -> Paths:
    """Paths whose probabilities are ``rows``; alpha is shifted, which must not matter."""
    paths = Paths(space, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for alpha, row in zip(paths.alpha, rows, strict=True):
            alpha[: len(row)] = torch.tensor(row).log() + 3
    return paths


@pytest.fixture(scope="module")
def many() -> Paths:
    """Equal edges in great number: one draw of an arch is a sample of independent draws."""
    return paths_of(chain(*[4] * MANY), *[P] * MANY)


def shares(choices: torch.Tensor) -> torch.Tensor:
    return torch.bincount(choices, minlength=4) / MANY


def close(found: torch.Tensor, expected: list[float] | tuple[float, ...]) -> bool:
    """Within 4.5 standard errors of every share."""
    p = torch.tensor(expected)
    return bool(((found - p).abs() < 4.5 * (p * (1 - p) / MANY).sqrt()).all())


def test_probabilities_are_the_softmax_over_what_exists() -> None:
    paths = paths_of(chain(3, 2), (0.5, 0.3, 0.2), (0.9, 0.1))
    expected = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
    torch.testing.assert_close(paths.probabilities(), expected)
    assert paths.most_probable().choices == (0, 0)


def test_at_the_start_all_are_almost_alike() -> None:
    """METHODS section 1: alpha is drawn with a standard deviation of 0.001."""
    paths = Paths(chain(*[6] * 200), torch.Generator().manual_seed(0))
    assert float(paths.alpha.detach().std()) == pytest.approx(1e-3, rel=0.1)
    assert paths.entropy() == pytest.approx(1.0, abs=1e-5)


def test_draws_follow_the_probabilities(many: Paths) -> None:
    generator = torch.Generator().manual_seed(0)
    assert close(shares(torch.tensor(many.sample(generator).choices)), P)


def test_draws_keep_to_what_exists_and_is_open() -> None:
    paths = paths_of(chain(4, 2), P, (0.5, 0.5))
    paths.prune(0.08)
    generator = torch.Generator().manual_seed(0)
    seen = {paths.sample(generator).choices for _ in range(400)}
    assert seen == set(product(range(3), range(2)))


def test_aim_is_the_broadest_distribution_of_that_cost() -> None:
    """Against a search over all distributions of one edge: no other with this expectation is broader."""
    paths = Paths(chain(3), torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths.alpha.zero_()
    costs = PathCosts.of(1.0, [[0.0, 1.0, 4.0]])
    paths.aim(costs, 1.9)
    p = paths.probabilities().detach()
    assert float(costs.expected(p)) == pytest.approx(1.9, abs=1e-4)
    entropy = -float((p * p.log()).sum())
    for last in torch.linspace(0.01, 0.22, 22).tolist():
        middle = 0.9 - 4 * last
        other = torch.tensor([1 - middle - last, middle, last])
        assert -float((other * other.log()).sum()) <= entropy + 1e-6


def test_aim_leaves_a_start_that_is_within_the_target() -> None:
    paths = Paths(chain(3), torch.Generator().manual_seed(0))
    before = paths.alpha.detach().clone()
    paths.aim(PathCosts.of(1.0, [[0.0, 1.0, 2.0]]), 2.5)
    assert torch.equal(paths.alpha, before)


def test_pairs_are_distinct_and_follow_draws_without_replacement(many: Paths) -> None:
    active, other, pairs = many.sample_pair(torch.Generator().manual_seed(1))
    assert torch.equal(pairs[:, 0], torch.tensor(active.choices))
    assert torch.equal(pairs[:, 1], torch.tensor(other.choices))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    low, high = pairs.sort(1).values.T
    for i, j in ((a, b) for a in range(4) for b in range(a + 1, 4)):
        share = float(((low == i) & (high == j)).float().mean())
        expected = pair_probability(P[i], P[j])
        assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / MANY)


def pair_probability(p: float, q: float) -> float:
    """Of two draws without replacement: one first and then the other, or the other way round."""
    return p * q / (1 - p) + q * p / (1 - q)


def test_the_active_one_of_a_pair_follows_the_renormalised_probabilities(many: Paths) -> None:
    """Its share is not p: a likely path is in most pairs but must share them with a rival in each."""
    active, _, _ = many.sample_pair(torch.Generator().manual_seed(2))
    marginal = [
        sum(pair_probability(p, q) * p / (p + q) for j, q in enumerate(P) if j != i) for i, p in enumerate(P)
    ]
    assert sum(marginal) == pytest.approx(1)
    found = shares(torch.tensor(active.choices))
    assert close(found, marginal)
    assert not close(found, P)


def test_of_two_candidates_the_active_one_follows_p() -> None:
    paths = paths_of(chain(*[2] * MANY), *[(0.8, 0.2)] * MANY)
    active, _, _ = paths.sample_pair(torch.Generator().manual_seed(0))
    share = sum(active.choices) / MANY
    assert abs(share - 0.2) < 4.5 * math.sqrt(0.16 / MANY)


def test_an_edge_of_one_open_candidate_pairs_it_with_itself() -> None:
    paths = paths_of(chain(3, 1, 3), (0.05, 0.9, 0.05), (1.0,), (0.4, 0.3, 0.3))
    assert paths.prune(0.1) == [[1], [0], [0, 1, 2]]
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        _, _, pairs = paths.sample_pair(generator)
        assert pairs[:2].tolist() == [[1, 1], [0, 0]]
        assert pairs[2, 0] != pairs[2, 1]
    paths.prune(0.39)
    assert paths.sample_pair(generator)[2].tolist() == [[1, 1], [0, 0], [0, 0]]


def test_two_can_be_drawn_where_all_others_have_underflowed() -> None:
    paths = Paths(chain(3), torch.Generator().manual_seed(0))
    with torch.no_grad():
        paths.alpha.copy_(torch.tensor([[200.0, 0.0, 0.0]]))
    for seed in range(20):
        _, _, pairs = paths.sample_pair(torch.Generator().manual_seed(seed))
        assert pairs.tolist() in ([[0, 1]], [[0, 2]])


def test_the_same_seed_draws_the_same() -> None:
    paths = paths_of(chain(4, 4), P, P)
    first, second = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    for _ in range(10):
        assert paths.sample(first) == paths.sample(second)
        assert torch.equal(paths.sample_pair(first)[2], paths.sample_pair(second)[2])


def test_log_probability_by_hand_and_its_gradient() -> None:
    paths = paths_of(chain(3, 2), (0.5, 0.3, 0.2), (0.9, 0.1))
    log_p = paths.log_probability(paths.space.arch((2, 1)))
    assert float(log_p.detach()) == pytest.approx(math.log(0.2 * 0.1), rel=1e-5)
    log_p.backward()  # one-hot minus p
    expected = torch.tensor([[-0.5, -0.3, 0.8], [-0.9, 0.9, 0.0]])
    assert paths.alpha.grad is not None
    torch.testing.assert_close(paths.alpha.grad, expected)


def test_log_probabilities_of_all_archs_sum_to_one() -> None:
    paths = paths_of(chain(4, 3), P, (0.2, 0.5, 0.3))
    paths.prune(0.08)
    total = sum(
        float(paths.log_probability(paths.space.arch(choices)).exp().detach())
        for choices in product(range(4), range(3))
    )
    assert total == pytest.approx(1, rel=1e-5)


def test_entropy_is_1_for_a_uniform_choice_and_0_for_a_settled_one() -> None:
    assert paths_of(chain(4, 2), (0.25,) * 4, (0.5, 0.5)).entropy() == pytest.approx(1)
    settled = paths_of(chain(4, 2), (1.0, 1e-20, 1e-20, 1e-20), (1e-20, 1.0))
    assert settled.entropy() == pytest.approx(0, abs=1e-6)
    by_hand = -sum(p * math.log(p) for p in P) / math.log(4)
    assert paths_of(chain(4, 4), P, (0.25,) * 4).entropy() == pytest.approx((by_hand + 1) / 2, rel=1e-5)
    closed = paths_of(chain(3, 1), (0.98, 0.01, 0.01), (1.0,))
    closed.prune(0.5)
    assert closed.entropy() == 0


def test_pruning_closes_what_is_below_and_never_the_best() -> None:
    paths = paths_of(chain(4, 2, 3), P, (0.7, 0.3), (0.3, 0.3, 0.4))
    assert paths.prune(0.08) == [[0, 1, 2], [0, 1], [0, 1, 2]]
    torch.testing.assert_close(
        paths.probabilities()[0], torch.tensor([0.6, 0.25, 0.1, 0.0]) / 0.95, rtol=1e-5, atol=0
    )
    assert paths.prune(2.0) == [[0], [0], [2]]
    assert paths.probabilities().detach().sum(1).tolist() == [1, 1, 1]


def test_what_is_closed_stays_closed_and_gets_no_gradient() -> None:
    paths = paths_of(chain(4), P)
    paths.prune(0.08)
    with torch.no_grad():
        paths.alpha[0, 3] = 100.0
    assert paths.prune(0.0) == [[0, 1, 2]]
    (paths.probabilities() * torch.tensor([1.0, 2.0, 3.0, 1000.0])).sum().backward()
    assert paths.alpha.grad is not None
    assert paths.alpha.grad[0, 3] == 0
    assert paths.alpha.grad.isfinite().all()
