"""What was put in has the statistics of what it sees, and outputs that moves changed come back."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from netsmith.nn.moments import passes_on
from netsmith.spaces.tree import LAYER, Branch, Node
from netsmith.transform.moves import grow
from netsmith.transform.settle import repair, settle
from netsmith.transform.sites import sites_of, with_trees
from tests.transform.networks import SHAPE, network

POOLED = Node("add", (Branch(LAYER, Node("add", (Branch("max pool"), Branch("separable 3")))), Branch(LAYER)))
EXACT = Node("add", (Branch(LAYER, Node("concat", (Branch("conv 1"), Branch("separable 3")))), Branch(LAYER)))


def batches() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        yield 2 * torch.randn(32, *SHAPE, generator=generator) + 0.5


def grown(base: nn.Module, node: Node) -> nn.Module:
    made, trees = with_trees(base, sites_of(base).found)
    for tree in trees.values():
        grow(tree, node)
    return made


def test_norms_that_change_nothing_take_on_statistics_and_still_change_nothing() -> None:
    base = network(6)
    made = grown(base, EXACT)
    x = next(iter(batches()))
    expected = base(x)
    fresh = [norm for norm in made.modules() if passes_on(norm)]
    assert fresh
    assert not any(passes_on(norm) for norm in base.modules())
    seen: list[torch.Tensor] = []
    hook = fresh[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    settle(made, batches())
    hook.remove()
    norm = fresh[0]
    assert isinstance(norm, nn.BatchNorm2d)
    every = torch.cat(seen).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(norm.running_mean, every.mean(1).float())
    torch.testing.assert_close(norm.running_var, every.var(1, correction=0).float(), rtol=1e-4, atol=1e-6)
    assert all(passes_on(norm) for norm in fresh)
    torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for layer in (base, made):
            layer.train()
        near = (made(x) - base(x)).abs().max() / base(x).abs().max()
    assert near < 0.05, "batch statistics are nearly those that they stand for"


def test_logits_that_pooling_changed_are_learned_again() -> None:
    base = network(6)
    made = grown(base, POOLED)
    settle(made, batches())
    before = copy.deepcopy(made.state_dict())
    found = repair(made, base, batches(), epochs=8)
    assert 0 < found.after < 0.3 * found.before
    made.load_state_dict(before)
    same = repair(made, base, batches(), epochs=8)
    assert same == found
    assert repair(made, base, batches(), epochs=0) == (found.after, found.after)


def test_what_was_kept_exactly_needs_no_repair() -> None:
    base = network(6)
    made = grown(base, EXACT)
    assert repair(made, base, batches(), epochs=0).before < 1e-10
