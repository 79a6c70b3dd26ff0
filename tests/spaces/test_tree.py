"""Trees are read as they are written, counted exactly, and changed one decision at a time."""

from __future__ import annotations

from random import Random

import pytest

from netsmith.errors import ArchError, SpaceError
from netsmith.spaces.tree import EDGES, LAYER, TREE_CELL_A, Branch, Node, TreeSpace
from netsmith.testing import space_contract

SPACE = TreeSpace("base")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_keeps_the_contract(depth: int) -> None:
    space_contract(TreeSpace("base", depth))


def test_the_count_is_that_of_all_that_is_reached_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TreeSpace("base", 1).count() == 4
    monkeypatch.setattr("netsmith.spaces.tree.EDGES", EDGES[:1])
    space = TreeSpace("base", 2)
    seen = {space.arch_of(None)}
    edge = list(seen)
    while edge:
        edge = list({near for arch in edge for near in space.neighbours(arch)} - seen)
        seen.update(edge)
    inner = 1 + 2 * 1**2 + 1**3
    assert len(seen) == space.count() == 1 + 2 * inner**2 + inner**3
    monkeypatch.undo()
    inner = 1 + 2 * 7**2 + 7**3
    assert TreeSpace("base", 2).count() == 1 + 2 * inner**2 + inner**3


def test_every_tree_is_read_as_it_was_written() -> None:
    rng = Random(0)
    for _ in range(200):
        arch = SPACE.sample(rng)
        tree = SPACE.tree(arch)
        assert tree is not None
        assert SPACE.arch_of(tree) == arch
    assert SPACE.tree(SPACE.arch_of(None)) is None
    assert not any(SPACE.arch_of(None).choices)


def test_the_published_cell_is_a_point() -> None:
    arch = SPACE.arch_of(TREE_CELL_A)
    assert SPACE.tree(arch) == TREE_CELL_A
    assert str(TREE_CELL_A).startswith("add(layer > add(conv 1 > concat(average pool, separable 7), max pool")


def test_a_branch_appears_as_identities_and_goes_only_as_such() -> None:
    space = TreeSpace("base", 2)
    start = space.arch_of(None)
    grown = {str(space.tree(arch)) for arch in space.neighbours(start)}
    assert grown == {"add(layer, layer)", "add(layer, layer, layer)", "concat(layer, layer)"}
    node = Node("add", (Branch("conv 1"), Branch()))
    arch = space.arch_of(Node("add", (Branch(LAYER, node), Branch(LAYER))))
    near = [str(space.tree(other)) for other in space.neighbours(arch)]
    assert "add(layer > add(identity, identity), layer)" in near
    assert "add(layer > add(conv 1, identity, identity), layer)" in near
    assert "add(layer, layer)" not in near
    assert None not in near


def test_what_is_no_tree_is_refused() -> None:
    deep = Node("add", (Branch(LAYER, Node("add", (Branch(), Branch()))), Branch(LAYER)))
    with pytest.raises(ArchError, match="deeper than the space allows"):
        TreeSpace("base", 1).arch_of(deep)
    with pytest.raises(ArchError, match="adds 2 or 3"):
        SPACE.arch_of(Node("concat", (Branch(LAYER),) * 3))
    with pytest.raises(ArchError, match="no operation here; there are layer"):
        SPACE.arch_of(Node("add", (Branch(), Branch())))
    with pytest.raises(SpaceError, match="1 to 3"):
        TreeSpace("base", 4)
