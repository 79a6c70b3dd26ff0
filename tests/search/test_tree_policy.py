"""The policy's probabilities are those of the trees it makes."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import torch
from torch import nn

from netsmith.search.tree_policy import Step, TreePolicy
from netsmith.spaces.tree import EDGES, LAYER, Branch, Node


def test_the_probabilities_of_all_trees_are_one_in_sum() -> None:
    """Of depth 1 there are three: two copies, three copies, and a split."""
    torch.manual_seed(0)
    policy = TreePolicy(hidden=8, head=8)
    trees = [Node("add", (Branch(LAYER),) * count) for count in (2, 3)]
    trees.append(Node("concat", (Branch(LAYER),) * 2))
    with torch.no_grad():
        total = sum(float(policy.read(1, tree).likelihood.exp()) for tree in trees)
    assert total == pytest.approx(1, abs=1e-5)


def test_a_tree_that_was_made_has_the_probability_that_it_was_made_with() -> None:
    torch.manual_seed(0)
    policy, rng = TreePolicy(hidden=8, head=8), Random(0)
    with torch.no_grad():
        for _ in range(10):
            made = policy.draw(3, rng)
            assert made.tree is not None
            again = policy.read(3, made.tree)
            assert again.tree == made.tree
            torch.testing.assert_close(again.likelihood, made.likelihood)
            torch.testing.assert_close(again.entropy, made.entropy)
            assert made.entropy > 0


def test_what_is_said_of_a_place_depends_on_what_stands_beside_it_and_above() -> None:
    torch.manual_seed(0)
    policy = TreePolicy(hidden=8, head=8)
    for parameter in policy.edges.parameters():
        nn.init.normal_(parameter)

    def likelihood(first: str, merge: str) -> float:
        inner = Node(merge, (Branch(first), Branch("conv 1")))  # type: ignore[arg-type]
        tree = Node("add", (Branch(LAYER, inner), Branch(LAYER)))
        with torch.no_grad():
            return float(policy.read(2, tree).likelihood)

    seen = {likelihood(*pair) for pair in itertools.product(("identity", "max pool"), ("add", "concat"))}
    assert len(seen) == 4


INNER = Node("add", (Branch("conv 1"), Branch("max pool")))
WHOLE = Node("add", (Branch(LAYER, INNER), Branch(LAYER)))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (("edge", (0, 1), EDGES.index("conv 1")), "add(layer > add(conv 1, conv 1), layer)"),
        (("expand", (0,), 0), "add(layer, layer)"),
        (("node", (0,), 2), "add(layer > concat(conv 1, max pool), layer)"),
        (("node", (), 2), "concat(layer > add(conv 1, max pool), layer)"),
    ],
)
def test_a_step_changes_what_it_names_and_nothing_else(step: Step, expected: str) -> None:
    torch.manual_seed(0)
    policy = TreePolicy(hidden=8, head=8)
    with torch.no_grad():
        made = policy.change(2, WHOLE, step, Random(0))
    assert str(made.tree) == expected


def test_what_a_step_makes_room_for_is_drawn() -> None:
    torch.manual_seed(0)
    policy = TreePolicy(hidden=8, head=8)
    with torch.no_grad():
        grown = {str(policy.change(2, WHOLE, ("node", (0,), 1), Random(i)).tree) for i in range(40)}
    assert len(grown) > len(EDGES) / 2
    assert all(each.startswith("add(layer > add(conv 1, max pool, ") for each in grown)
