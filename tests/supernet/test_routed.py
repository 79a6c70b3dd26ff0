"""The routed supernet equals, image by image, the static networks it holds, and computes nothing else."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netsmith.nn.layers import BatchNorm
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import RoutedSpace, routed
from netsmith.supernet.policies import complete, policies_of
from netsmith.supernet.routed import SMALLEST_GROUP, RoutedSupernet


@pytest.fixture
def space() -> RoutedSpace:
    return routed((1, 8, 8), 3, width=0.25, stages=[Stage(64, 2, 1), Stage(96, 3, 2)])


@pytest.fixture
def supernet(space: RoutedSpace) -> RoutedSupernet:
    """Shaken, so that no two operations and no two channels are alike."""
    torch.manual_seed(0)
    supernet = RoutedSupernet(space).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in supernet.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return supernet


def images(n: int) -> torch.Tensor:
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def random_policies(space: RoutedSpace, n: int, p: float = 0.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n, len(space.edges), len(space.edges[0]), generator=generator) < p


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_each_image_is_as_its_own_static_network_makes_it(
    space: RoutedSpace, supernet: RoutedSupernet, layout: torch.memory_format
) -> None:
    rng = Random(0)
    archs = [space.sample(rng) for _ in range(9)]
    archs += [space.arch((0,) * 5), space.arch((31,) * 5), archs[0]]
    x = images(len(archs)).contiguous(memory_format=layout)
    supernet.eval()
    together = supernet(x, policies_of(space, archs))
    for i, arch in enumerate(archs):
        alone = supernet.extract(arch).eval()(x[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_where_all_images_take_one_path_training_equals_the_static_network(
    space: RoutedSpace, supernet: RoutedSupernet
) -> None:
    """Values, gradients and running statistics alike."""
    x, arch = images(8), space.arch((5, 0, 16, 3, 0))
    network = supernet.extract(arch).train()
    supernet.train()
    ours, theirs = supernet(x, policies_of(space, [arch] * 8)), network(x)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    pairs = [(supernet.edges[0].operations[2], network.blocks[1].parts[1])]
    pairs += [(supernet.stem[0], network.blocks[0]), (supernet.edges[2].operations[4], network.blocks[3])]
    for mine, other in pairs:
        for (name, p), (_, q) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, msg=name)
        for p, q in zip(mine.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(p, q)
    assert all(p.grad is None for p in supernet.edges[1].parameters())


def test_gradients_equal_those_of_computing_everything_and_masking(
    space: RoutedSpace, supernet: RoutedSupernet
) -> None:
    x, policies = images(12).requires_grad_(), random_policies(space, 12)
    supernet.eval()
    parameters = [x, *supernet.parameters()]
    ours = torch.autograd.grad(supernet(x, policies).square().sum(), parameters, allow_unused=True)

    active, out = complete(space, policies), supernet.stem(x)
    for i, edge in enumerate(supernet.edges):
        masks = active[:, i].float()
        total = sum(masks[:, j].view(-1, 1, 1, 1) * op(out) for j, op in enumerate(edge.operations))
        out = total + out if edge.skippable else total
    plain = torch.autograd.grad(supernet.head(out).square().sum(), parameters)
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(
            torch.zeros_like(other) if mine is None else mine, other, rtol=1e-4, atol=1e-4
        )


def test_every_operation_sees_the_images_that_use_it_and_no_other(
    space: RoutedSpace, supernet: RoutedSupernet
) -> None:
    policies = random_policies(space, 30)
    seen: dict[tuple[int, int], int] = {}
    for i, edge in enumerate(supernet.edges):
        for j, operation in enumerate(edge.operations):
            operation.register_forward_hook(
                lambda module, inputs, output, place=(i, j): seen.update({place: len(inputs[0])})
            )
    supernet.eval()(images(30), policies)
    numbers = complete(space, policies).sum(0)
    assert seen == {
        (i, j): int(numbers[i, j])
        for i in range(len(space.edges))
        for j in range(len(space.edges[0]))
        if numbers[i, j]
    }


@pytest.mark.parametrize("number", [1, 2, 7])
def test_tiny_groups_train_and_leave_the_statistics_alone(number: int) -> None:
    """Down to one image of one pixel, of which PyTorch has no variance."""
    space = routed(
        (1, 8, 8), 3, width=0.5, stages=[Stage(32, 1, 2), Stage(32, 1, 2), Stage(32, 2, 2)], stem_stride=1
    )
    supernet = RoutedSupernet(space).train()
    policies = torch.zeros(number, 4, 5, dtype=torch.bool)
    policies[0, 3, 0] = True
    operation = supernet.edges[3].operations[0]
    norms = [layer for layer in operation.modules() if isinstance(layer, _BatchNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    x = torch.randn(number, 1, 8, 8)
    if number < SMALLEST_GROUP:
        supernet.head.eval()  # which sees the whole batch, here itself too small for statistics
    supernet(x, policies).sum().backward()
    assert all(norm.running_mean.equal(mean) for norm, mean in zip(norms, before, strict=True))
    assert all(norm.training for norm in norms)
    assert all(p.grad is not None for p in operation.parameters())


def test_groups_of_some_images_move_the_statistics(space: RoutedSpace, supernet: RoutedSupernet) -> None:
    policies = torch.zeros(12, 5, 5, dtype=torch.bool)
    policies[:SMALLEST_GROUP, 1, 0] = True
    policies[: SMALLEST_GROUP - 1, 1, 1] = True
    supernet.train()(images(12), policies)
    moved = [edge_norms(supernet.edges[1].operations[j]) for j in (0, 1, 2)]
    assert [{int(norm.num_batches_tracked) for norm in norms} for norms in moved] == [{1}, {0}, {0}]


def edge_norms(module: nn.Module) -> list[BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
