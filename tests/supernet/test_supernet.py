"""The supernet equals the networks it holds, and its gates equal the paper's formula."""

from __future__ import annotations

from random import Random

import pytest
import torch
import torch.nn.functional as F

from netsmith.nn.network import Network
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.supernet.paths import Paths
from netsmith.supernet.proxyless import binary_gates, frozen
from netsmith.supernet.supernet import Supernet


@pytest.fixture
def space() -> ChainSpace:
    return mbconv((1, 8, 8), 3, width=0.25, stages=[Stage(24, 2, 1), Stage(40, 2, 2)])


def images(n: int = 4) -> torch.Tensor:
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_a_path_equals_the_network_cut_out(space: ChainSpace, weights: str) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, weights)  # type: ignore[arg-type]
    rng = Random(0)
    for _ in range(6):
        arch = space.sample(rng)
        network = supernet.extract(arch)
        assert isinstance(network, Network)
        for mode in (True, False):
            supernet.train(mode)
            network.train(mode)
            torch.testing.assert_close(supernet(images(), arch), network(images()))


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_many_archs_at_once_equal_one_at_a_time(space: ChainSpace, weights: str) -> None:
    supernet = Supernet(space, weights).eval()  # type: ignore[arg-type]
    rng = Random(3)
    archs = [space.sample(rng) for _ in range(8)]
    archs.append(archs[0])
    together = supernet.forward_many(images(), archs)
    for arch, logits in zip(archs, together, strict=True):
        torch.testing.assert_close(logits, supernet(images(), arch))


def test_shared_weights_are_slices_of_the_largest(space: ChainSpace) -> None:
    supernet = Supernet(space, "shared")
    small, large = supernet.edges[1].extract(0), supernet.edges[1].extract(5)
    torch.testing.assert_close(
        small.depthwise.weight, large.depthwise.weight[: len(small.depthwise.weight), :, 2:5, 2:5]
    )
    own = sum(p.numel() for p in Supernet(space, "own").parameters())
    shared = sum(p.numel() for p in supernet.parameters())
    assert shared < 0.5 * own


def test_gate_gradients_equal_the_papers_formula_by_brute_force(space: ChainSpace) -> None:
    """dL/dg_j by a supernet with real-valued gates; then equation 4, summed by hand."""
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    generator = torch.Generator().manual_seed(5)
    paths = Paths(space, generator)
    with torch.no_grad():
        paths.alpha.normal_(generator=generator)
    x, y = images(), torch.tensor([0, 1, 2, 1])
    active, other, pairs = paths.sample_pair(generator)
    gates, _ = binary_gates(paths, pairs)
    with frozen(supernet):
        F.cross_entropy(supernet.gated(x, active, other, gates), y).backward()
    assert paths.alpha.grad is not None

    plain = torch.tensor([[1.0, 0.0]] * len(space.edges), requires_grad=True)
    out = supernet.stem(x)
    for i, edge in enumerate(supernet.edges):
        first, second = active.choices[i], other.choices[i]
        out = plain[i, 0] * edge(out, first) + plain[i, 1] * edge(out, second)
    F.cross_entropy(supernet.head(out), y).backward()
    assert plain.grad is not None

    expected = torch.zeros_like(paths.alpha)
    for i in range(len(space.edges)):
        p = paths.alpha[i, pairs[i]].softmax(0).detach()
        for a in range(2):
            total = sum(plain.grad[i, j] * p[j] * (float(a == j) - p[a]) for j in range(2))
            expected[i, pairs[i, a]] = total
    # Real gates let the loss see both candidates only through the active one's values, as binary gates do.
    torch.testing.assert_close(paths.alpha.grad, expected, rtol=1e-4, atol=1e-7)


def test_an_architecture_step_computes_no_weight_gradients(space: ChainSpace) -> None:
    supernet = Supernet(space)
    paths = Paths(space, torch.Generator().manual_seed(0))
    active, other, pairs = paths.sample_pair(torch.Generator().manual_seed(0))
    gates, _ = binary_gates(paths, pairs)
    with frozen(supernet):
        supernet.gated(images(), active, other, gates).sum().backward()
    assert all(p.grad is None and p.requires_grad for p in supernet.parameters())


def test_pruned_candidates_leave_memory_and_the_others_stay(space: ChainSpace) -> None:
    for weights in ("own", "shared"):
        supernet = Supernet(space, weights).eval()  # type: ignore[arg-type]
        arch = space.arch((1, 2, 0, 3))
        before, parameters = supernet(images(), arch), len(list(supernet.parameters()))
        supernet.keep([[choice] for choice in arch.choices])
        torch.testing.assert_close(supernet(images(), arch), before)
        assert len(list(supernet.parameters())) < parameters
