"""The updates of the path probabilities, against their formulas on cases small enough to enumerate."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.arch import Arch
from netsmith.nn.blocks import BUILDERS
from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.supernet.objective import PathCosts, add_linear
from netsmith.supernet.paths import Paths
from netsmith.supernet.proxyless import Reinforce, binary_gates, frozen, gradient_step, weight_step
from netsmith.supernet.supernet import Supernet

FACTORS = (1.0, -2.0, 0.5, 3.0)


class Times(nn.Module):
    """Multiplies by a constant: the loss below is then linear in the output of the edge."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def linear_case(monkeypatch: pytest.MonkeyPatch, number: int) -> tuple[Supernet, Paths, torch.Tensor]:
    """One edge of ``number`` factors; x of shape (1, 1, 1, 1) with value 2."""
    for i, factor in enumerate(FACTORS):
        monkeypatch.setitem(BUILDERS, f"times{i}", lambda block, factor=factor: Times(factor))
    options = tuple(Block(f"times{i}", 1, 1, 1, 1) for i in range(number))
    space = ChainSpace("linear", (), (options,), ())
    return Supernet(space), Paths(space, torch.Generator().manual_seed(0)), torch.full((1, 1, 1, 1), 2.0)


def pair_gradient(supernet: Supernet, paths: Paths, x: torch.Tensor, pair: tuple[int, int]) -> torch.Tensor:
    paths.alpha.grad = None
    gates, _ = binary_gates(paths, torch.tensor([pair]))
    active, other = (Arch(supernet.space.id, (choice,)) for choice in pair)
    supernet.gated(x, active, other, gates).sum().backward()
    assert paths.alpha.grad is not None
    return paths.alpha.grad[0].clone()


def full_gradient(paths: Paths, number: int) -> torch.Tensor:
    """Of the loss averaged over all paths with their probabilities."""
    alpha = paths.alpha.detach()[0].clone().requires_grad_()
    (alpha.softmax(0) * 2.0 * torch.tensor(FACTORS[:number])).sum().backward()
    assert alpha.grad is not None
    return alpha.grad


@pytest.mark.parametrize("pair", [(0, 1), (1, 0)])
def test_of_two_candidates_the_gradient_is_that_of_the_full_softmax(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[int, int]
) -> None:
    supernet, paths, x = linear_case(monkeypatch, 2)
    with torch.no_grad():
        paths.alpha.copy_(torch.tensor([[0.7, -0.4]]))
    torch.testing.assert_close(pair_gradient(supernet, paths, x, pair), full_gradient(paths, 2))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_over_all_pairs_of_a_uniform_choice_it_is_in_proportion_to_the_full_softmax(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Each pair comes with 2 / (n (n - 1)) and gives (g_i - g_j) / 4 where the full sum has 1 / n^2."""
    supernet, paths, x = linear_case(monkeypatch, number)
    with torch.no_grad():
        paths.alpha.zero_()
    pairs = list(combinations(range(number), 2))
    mean = sum(pair_gradient(supernet, paths, x, pair) for pair in pairs) / len(pairs)
    factor = number / (2 * (number - 1))
    torch.testing.assert_close(mean, factor * full_gradient(paths, number))


def test_over_all_pairs_it_is_the_sum_of_their_closed_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """For any p: the sum over j of P({i, j}) * p_i p_j / (p_i + p_j)^2 * (g_i - g_j)."""
    supernet, paths, x = linear_case(monkeypatch, 4)
    with torch.no_grad():
        paths.alpha.normal_(generator=torch.Generator().manual_seed(1))
    p, g = paths.probabilities()[0].tolist(), [2 * factor for factor in FACTORS]
    mean, by_hand = torch.zeros(4), [0.0] * 4
    for i, j in combinations(range(4), 2):
        chance = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
        mean += chance * pair_gradient(supernet, paths, x, (i, j))
        pull = chance * p[i] * p[j] / (p[i] + p[j]) ** 2 * (g[i] - g[j])
        by_hand[i] += pull
        by_hand[j] -= pull
    torch.testing.assert_close(mean, torch.tensor(by_hand), rtol=1e-4, atol=1e-6)


@pytest.fixture
def space() -> ChainSpace:
    return mbconv((1, 8, 8), 3, width=0.25, stages=[Stage(24, 2, 1), Stage(40, 2, 2)])


def images() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 0, 1, 2])


def test_probabilities_of_paths_that_were_not_sampled_stay_as_they_were(space: ChainSpace) -> None:
    torch.manual_seed(0)
    supernet, paths = Supernet(space), Paths(space, torch.Generator().manual_seed(0))
    costs = PathCosts.of(1.0, [[0.1 * j for j in range(len(edge))] for edge in space.edges])
    optimizer = torch.optim.Adam(paths.parameters(), lr=0.2, betas=(0.0, 0.999))
    generator, again = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    moved = 0.0
    for _ in range(10):
        before = paths.probabilities().detach()
        _, _, pairs = paths.sample_pair(again)
        gradient_step(
            supernet, paths, optimizer, *images(), costs,
            lambda ce, e: add_linear(ce, e, 1.2, 0.1), generator,
        )  # fmt: skip
        after = paths.probabilities().detach()
        sampled = torch.zeros_like(paths.open).scatter(1, pairs, True)
        torch.testing.assert_close(after[~sampled], before[~sampled], rtol=0, atol=1e-6)
        torch.testing.assert_close(after.gather(1, pairs).sum(1), before.gather(1, pairs).sum(1))
        moved = max(moved, float((after - before).abs().max()))
    assert moved > 0.02


def test_an_edge_of_one_open_candidate_rests(space: ChainSpace) -> None:
    torch.manual_seed(0)
    supernet, paths = Supernet(space), Paths(space, torch.Generator().manual_seed(0))
    paths.open[1] = torch.arange(paths.open.shape[1]) == 2
    before = paths.alpha.detach().clone()
    costs = PathCosts.of(1.0, [[0.1 * j for j in range(len(edge))] for edge in space.edges])
    optimizer = torch.optim.Adam(paths.parameters(), lr=0.2, betas=(0.0, 0.999))
    generator = torch.Generator().manual_seed(4)
    gradient_step(
        supernet, paths, optimizer, *images(), costs, lambda ce, e: add_linear(ce, e, 1.2, 1.0), generator
    )
    torch.testing.assert_close(paths.alpha.detach()[1], before[1], rtol=0, atol=1e-6)
    assert not torch.allclose(paths.alpha.detach()[0], before[0])


def test_the_latency_gradient_is_over_the_two_sampled_paths(space: ChainSpace) -> None:
    """Without an influence of the images: d E / d alpha_i = p_i p_j (F_i - F_j), p over the pair."""
    supernet, paths = Supernet(space), Paths(space, torch.Generator().manual_seed(0))
    rows = [[float(j * j) for j in range(len(edge))] for edge in space.edges]
    costs = PathCosts.of(1.0, rows)
    optimizer = torch.optim.SGD(paths.parameters(), lr=0.0)
    seen: list[float] = []

    def latency_alone(cross_entropy: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        seen.append(float(expected.detach()))
        return 0 * cross_entropy + expected

    _, _, pairs = paths.sample_pair(torch.Generator().manual_seed(9))
    gradient_step(
        supernet, paths, optimizer, *images(), costs, latency_alone, torch.Generator().manual_seed(9)
    )
    assert paths.alpha.grad is not None
    total = 1.0
    for i, (a, b) in enumerate(pairs.tolist()):
        p, q = paths.alpha.detach()[i, [a, b]].softmax(0).tolist()
        total += p * rows[i][a] + q * rows[i][b]
        pull = p * q * (rows[i][a] - rows[i][b])
        expected = torch.zeros(paths.alpha.shape[1])
        expected[a], expected[b] = pull, -pull
        torch.testing.assert_close(paths.alpha.grad[i], expected, rtol=1e-4, atol=1e-5)
    assert seen == [pytest.approx(total, rel=1e-5)]


def test_reinforce_moves_by_the_closed_form(space: ChainSpace) -> None:
    """The gradient of -mean (R - b) log p, with d log p / d alpha = one-hot - p; b begins as a mean."""
    torch.manual_seed(0)
    supernet, paths = Supernet(space).eval(), Paths(space, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(paths.parameters(), lr=1.0)
    reinforce = Reinforce(samples=5, baseline_rate=0.5)
    generator, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    x, y = images()
    baseline: float | None = None

    def reward(arch: Arch, accuracy: float) -> float:
        return accuracy + 0.1 * sum(arch.choices)

    for _ in range(3):
        archs = [paths.sample(again) for _ in range(5)]
        with torch.no_grad():
            hits = [(supernet(x, arch).argmax(1) == y).float().mean() for arch in archs]
        rewards = [reward(arch, float(hit)) for arch, hit in zip(archs, hits, strict=True)]
        mean = sum(rewards) / 5
        baseline = mean if baseline is None else baseline + 0.5 * (mean - baseline)
        p = paths.probabilities().detach()
        step = torch.zeros_like(p)
        for arch, value in zip(archs, rewards, strict=True):
            onehot = F.one_hot(torch.tensor(arch.choices), p.shape[1])
            step += (value - baseline) * (onehot - p) / 5
        expected = paths.alpha.detach() + step * paths.open
        accuracy = reinforce.step(supernet, paths, optimizer, x, y, reward, generator)
        assert accuracy == pytest.approx(float(sum(hits)) / 5)
        assert reinforce.baseline == pytest.approx(baseline)
        torch.testing.assert_close(paths.alpha.detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_weight_step_touches_the_sampled_path_alone(space: ChainSpace) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    first, second = space.arch((0, 1, 2, 3)), space.arch((1, 2, 3, 4))
    weight_step(supernet, first, optimizer, *images())
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    loss = weight_step(supernet, second, optimizer, *images())
    assert math.isfinite(loss)
    for name, parameter in supernet.named_parameters():
        on_path = not name.startswith("edges.") or any(
            name.startswith(f"edges.{i}.candidates.{c}.") for i, c in enumerate(second.choices)
        )
        assert torch.equal(parameter, before[name]) != on_path, name


def test_weights_are_free_again_also_after_an_error(space: ChainSpace) -> None:
    supernet = Supernet(space)
    with frozen(supernet):
        assert not any(p.requires_grad for p in supernet.parameters())
    with pytest.raises(ZeroDivisionError), frozen(supernet):
        _ = 1 / 0
    assert all(p.requires_grad for p in supernet.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_alpha_rests_on_the_processor_while_weights_are_on_a_gpu(space: ChainSpace) -> None:
    alphas = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        supernet, paths = Supernet(space).to(device), Paths(space, torch.Generator().manual_seed(0))
        costs = PathCosts.of(1.0, [[0.1 * j for j in range(len(edge))] for edge in space.edges])
        optimizer = torch.optim.SGD(paths.parameters(), lr=10.0)
        x, y = (tensor.to(device) for tensor in images())
        gradient_step(
            supernet, paths, optimizer, x, y, costs,
            lambda ce, e: add_linear(ce, e, 1.2, 0.1), torch.Generator().manual_seed(4),
        )  # fmt: skip
        alphas.append(paths.alpha.detach())
    torch.testing.assert_close(alphas[0], alphas[1], rtol=1e-3, atol=1e-4)
