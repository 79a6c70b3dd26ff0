"""Whatever is done to a network by moves, it computes what it did."""

from __future__ import annotations

import copy
from random import Random

import pytest
import torch
from torch import nn

from netsmith.errors import TransformError
from netsmith.nn.layers import BatchNormReLU6
from netsmith.nn.tree import Path, Tree
from netsmith.spaces.tree import EDGES, LAYER, Branch, Node, TreeSpace
from netsmith.transform.moves import (
    INEXACT,
    Place,
    branch,
    break_symmetry,
    deepen,
    grow,
    identical,
    path_at,
    planted,
    shape_of,
)
from netsmith.transform.sites import sites_of, with_trees
from tests.transform.networks import SHAPE, network

EXACT = [edge for edge in EDGES if edge not in INEXACT]


def places_of(node: Node | None, here: Place = ()) -> list[Place]:
    """Every path of a tree, the root where it has no branches."""
    if node is None:
        return [here] if not here else []
    found: list[Place] = []
    for number, each in enumerate(node.branches):
        found += [(*here, number), *places_of(each.node, (*here, number))]
    return found


def moved_at_random(tree: Tree, rng: Random, moves: int) -> int:
    """Make so many moves where they may be made; return how many were."""
    done = 0
    for _ in range(moves):
        place = rng.choice(places_of(shape_of(tree)))
        try:
            if place and rng.random() < 0.5:
                deepen(tree, place, rng.choice(EXACT[1:]))
            else:
                branch(tree, place, *rng.choice((("add", 2), ("add", 3), ("concat", 2))))
        except TransformError:
            continue
        done += 1
    return done


@pytest.mark.parametrize("some", range(10))
def test_two_hundred_networks_compute_what_they_did_after_random_moves(some: int) -> None:
    made = 0
    for seed in range(20 * some, 20 * (some + 1)):
        base, rng = network(seed), Random(seed)
        x = torch.randn(4, *SHAPE)
        grown, trees = with_trees(base, sites_of(base).found)
        made += sum(moved_at_random(tree, rng, 6) for tree in trees.values())
        with torch.no_grad():
            expected = base(x)
            torch.testing.assert_close(grown.eval()(x), expected, rtol=1e-5, atol=1e-5)
    assert made > 60


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
def test_a_grown_tree_is_the_one_that_was_asked_for(activation: str) -> None:
    space, rng = TreeSpace("base"), Random(0)
    for _ in range(20):
        node = space.tree(space.sample(rng))
        tree = planted(nn.Conv2d(6, 24, 3, padding=1), 24, activation)  # type: ignore[arg-type]
        places = grow(tree, node)
        assert shape_of(tree) == node
        assert sorted(str(node).count(pool) for pool in INEXACT) == sorted(
            sum(isinstance(path_at(tree, place).edge, kind) for place in places)
            for kind in (nn.MaxPool2d, nn.AvgPool2d)
        )
        assert tree(torch.zeros(2, 6, 8, 8)).shape == (2, 24, 8, 8)


def test_replicas_are_a_mean_and_splits_are_the_filters_themselves() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(2, 3, 6, 6)
    added, split = (planted(copy.deepcopy(layer), 5, "none") for _ in range(2))
    branch(added, (), "add", 3)
    branch(split, (), "concat", 2)
    assert [path.edge.weight.shape[0] for path in split.body.paths] == [3, 2]  # type: ignore[union-attr]
    assert torch.equal(split(x), layer(x))
    first = added.body.paths[0].edge  # type: ignore[union-attr,index]
    with torch.no_grad():
        first.weight += 1
        expected = (layer(x) * 2 + first(x)) / 3
    torch.testing.assert_close(added(x), expected)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_a_grouped_convolution_is_split_between_its_groups(groups: int) -> None:
    layer, x = nn.Conv2d(6, 12, 3, padding=1, groups=groups), torch.randn(2, 6, 5, 5)
    tree = planted(layer, 12, "none")
    expected = layer(x)
    branch(tree, (), "concat", 2)
    torch.testing.assert_close(tree(x), expected)
    assert sum(path.edge.groups for path in tree.body.paths) == groups  # type: ignore[union-attr]


@pytest.mark.parametrize("edge", EXACT[1:])
def test_an_operation_is_an_identity_on_what_has_passed_its_activation(edge: str) -> None:
    x = torch.rand(2, 4, 7, 7) * 6
    made = identical(edge, 4, "relu6").eval()
    assert isinstance(made[-1], BatchNormReLU6)  # type: ignore[index]
    torch.testing.assert_close(made(x), x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(identical(edge, 4, "none").eval()(-x), -x, rtol=1e-5, atol=1e-5)


def test_noise_makes_copies_differ_and_leaves_split_filters_alone() -> None:
    torch.manual_seed(0)
    node = Node("add", (Branch(LAYER, Node("concat", (Branch("conv 1"), Branch()))), Branch(LAYER)))
    layer = nn.Conv2d(4, 6, 3, padding=1)
    trees = [planted(copy.deepcopy(layer), 6, "relu") for _ in range(2)]
    for tree in trees:
        grow(tree, node)
        break_symmetry(tree, seed=3)
    one, other = (path.edge.weight for path in trees[0].body.paths)  # type: ignore[union-attr]
    spread = float((one - layer.weight).std() / layer.weight.std())
    assert 0.7 * 6e-3 < spread < 1.3 * 6e-3
    assert not torch.equal(one, other)
    states = [tree.state_dict() for tree in trees]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    split = planted(copy.deepcopy(layer), 6, "relu")
    branch(split, (), "concat", 2)
    break_symmetry(split, seed=3)
    weights = [path.edge.weight for path in split.body.paths]  # type: ignore[union-attr]
    assert torch.equal(torch.cat(weights), layer.weight)


def test_moves_that_cannot_be_made_are_refused() -> None:
    tree = planted(nn.Conv2d(3, 2, 3, padding=1), 2, "none")
    with pytest.raises(TransformError, match="operation already"):
        deepen(tree, (), "conv 1")
    with pytest.raises(TransformError, match="no path"):
        branch(tree, (0,), "add", 2)
    with pytest.raises(TransformError, match="2 channels or groups cannot be shared among 3"):
        branch(tree, (), "concat", 3)
    branch(tree, (), "add", 2)
    with pytest.raises(TransformError, match="root has branches"):
        branch(tree, (), "add", 2)
    with pytest.raises(TransformError, match="name one of them"):
        path_at(tree, ())
    branch(tree, (1,), "add", 2)
    with pytest.raises(TransformError, match="a node at"):
        branch(tree, (1,), "concat", 2)
    deepen(tree, (1, 0), "max pool")
    with pytest.raises(TransformError, match="only an identity"):
        deepen(tree, (1, 0), "conv 1")
    assert isinstance(path_at(tree, (1, 1)), Path)
