"""The moves of path-level transformation (Cai et al. 2018, section 3.1): the network computes what it did.

``branch`` puts a node behind a path, or replicates the layer at the root; ``deepen`` puts an operation in the
place of an identity, with weights that change nothing. Exact in evaluation mode, but for pooling, which
is no identity at any weight, and for operations with an activation behind values that it would change.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import nn

from netsmith.errors import TransformError
from netsmith.nn.moments import pass_on
from netsmith.nn.tree import Activation, Added, Concatenated, Path, Tree, edge_of
from netsmith.spaces.tree import EDGES, LAYER, Branch, Node

Place = tuple[int, ...]
"""A path of a tree: the number of its branch at every node from the root down; () is the root."""
NOISE = 6e-3  # of the standard deviation of a weight, as in the release
INEXACT = ("max pool", "average pool")
Merge = Literal["add", "concat"]


def planted(layer: nn.Module, channels: int, activation: Activation) -> Tree:
    """Return a tree of one path, ``layer``, which gives ``channels`` and ends in ``activation``."""
    return Tree(Path(layer, channels), activation)


def branch(tree: Tree, place: Place, merge: Merge, count: int) -> None:
    """Put a node of ``count`` branches at ``place``, in place.

    At the root the layer itself is replicated (``add``: the mean of copies) or its filters are split
    (``concat``); elsewhere the branches are identities of all channels or of their shares. Raises
    :class:`TransformError` where there is a node already or there are too few channels.
    """
    if not place:
        if not isinstance(tree.body, Path):
            raise TransformError("the root has branches already; put nodes behind them")
        tree.body = _replicated(tree.body, merge, count)
        return
    path = path_at(tree, place)
    if not isinstance(path.node, nn.Identity):
        raise TransformError(f"there is a node at {place} already; put others behind its branches")
    if merge == "add":
        path.node = Added([Path(nn.Identity(), path.channels) for _ in range(count)])
    else:
        shares = _shares(path.channels, count)
        path.node = Concatenated([Path(nn.Identity(), share) for share in shares], shares)


def deepen(tree: Tree, place: Place, edge: str) -> None:
    """Put the operation ``edge`` in the place of the identity at ``place``, in place, changing nothing."""
    path = path_at(tree, place)
    if not isinstance(path.edge, nn.Identity):
        raise TransformError(
            f"the edge at {place} is an operation already; only an identity gives way to one"
        )
    path.edge = identical(edge, path.channels, tree.activation)


def identical(edge: str, channels: int, activation: Activation) -> nn.Module:
    """Return an operation with weights that make it an identity, where it can be one.

    The centre of each depthwise filter is 1, a 1x1 convolution passes each channel on, and the batch norm
    undoes its own statistics: gamma = sqrt(var + eps), beta = mean. Behind it an activation changes nothing
    that has passed it before.
    """
    made = edge_of(edge, channels, activation)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(_passing(layer))
            elif isinstance(layer, nn.BatchNorm2d):
                pass_on(layer)
    return made


def path_at(tree: Tree, place: Place) -> Path:
    """Return a path of a tree. Raises :class:`TransformError` where there is none."""
    found: nn.Module = tree.body
    for depth, number in enumerate(place):
        paths = getattr(found if depth == 0 else getattr(found, "node", None), "paths", None)
        if paths is None or not 0 <= number < len(paths):
            raise TransformError(f"the tree {shape_of(tree)} has no path {place}")
        found = paths[number]
    if not isinstance(found, Path):
        raise TransformError(f"{place} is the root, which has branches; name one of them")
    return found


def shape_of(tree: Tree) -> Node | None:
    """Return the tree as its space writes it; None where the layer stands alone."""
    return None if isinstance(tree.body, Path) else _node(tree.body, root=True)


def moves_to(node: Node | None) -> Iterator[tuple[Place, Node | str]]:
    """Yield the moves that make a tree of a layer alone, in turn: at a place, a node or an operation."""
    if node is None:
        return
    waiting: list[tuple[Place, Node]] = [((), node)]
    for place, each in waiting:
        yield place, each
        for number, one in enumerate(each.branches):
            here = (*place, number)
            if one.edge not in (LAYER, EDGES[0]):
                yield here, one.edge
            if one.node is not None:
                waiting.append((here, one.node))


def grow(tree: Tree, node: Node | None) -> list[Place]:
    """Grow a tree of one path into ``node``, in place; return the places of what is no identity."""
    inexact = []
    for place, what in moves_to(node):
        if isinstance(what, Node):
            branch(tree, place, what.merge, len(what.branches))
        else:
            deepen(tree, place, what)
            if what in INEXACT:
                inexact.append(place)
    return inexact


def break_symmetry(tree: Tree, seed: int, noise: float = NOISE) -> None:
    """Add noise to the weights of convolutions that came by moves, in place, so that they learn apart.

    Normal, its standard deviation that of the weight times ``noise``; the filters of a layer that was split
    stay as they are, for no two of them are alike.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(tree.body, Path):
        return
    filters = re.compile(r"body\.paths\.\d+\.edge\b") if _of_filters(tree.body) else None
    for name, layer in tree.named_modules():
        if not isinstance(layer, nn.Conv2d) or (filters is not None and filters.match(name)):
            continue
        with torch.no_grad():
            spread = noise * float(layer.weight.std()) if layer.weight.numel() > 1 else 0.0
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.add_((spread * drawn).to(layer.weight))


def _node(module: nn.Module, *, root: bool = False) -> Node | None:
    if isinstance(module, nn.Identity):
        return None
    assert isinstance(module, Added | Concatenated)
    branches = []
    for path in module.paths:
        assert isinstance(path, Path)
        branches.append(Branch(LAYER if root else _name(path.edge), _node(path.node)))
    return Node("add" if isinstance(module, Added) else "concat", tuple(branches))


def _of_filters(body: nn.Module) -> bool:
    """Whether the branches of a root are the filters of a convolution that all take the same."""
    return isinstance(body, Concatenated) and body.takes is None


def _name(edge: nn.Module) -> str:
    if isinstance(edge, nn.Identity):
        return EDGES[0]
    if isinstance(edge, nn.MaxPool2d | nn.AvgPool2d):
        return "max pool" if isinstance(edge, nn.MaxPool2d) else "average pool"
    assert isinstance(edge, nn.Sequential)
    first = edge[0]
    assert isinstance(first, nn.Conv2d)
    return f"separable {first.kernel_size[0]}" if len(edge) > 2 else "conv 1"


def _passing(layer: nn.Conv2d) -> torch.Tensor:
    """The weight of a square convolution that gives each channel as it is."""
    weight = torch.zeros_like(layer.weight)
    centre = layer.kernel_size[0] // 2
    for channel in range(layer.out_channels):
        weight[channel, channel if layer.groups == 1 else 0, centre, centre] = 1
    return weight


def _replicated(path: Path, merge: Merge, count: int) -> Added | Concatenated:
    if merge == "add":
        return Added([copy.deepcopy(path) for _ in range(count)])
    convolution = next((layer for layer in path.edge.modules() if isinstance(layer, nn.Conv2d)), None)
    if convolution is None:
        raise TransformError("only a convolution's filters can be split")
    groups = convolution.groups
    if groups == 1:
        outs = _shares(path.channels, count)
        return Concatenated([_filters(path, convolution, share) for share in _runs(outs)], None)
    shares = _shares(groups, count)
    outs, takes = (
        [s * width // groups for s in shares] for width in (path.channels, convolution.in_channels)
    )
    return Concatenated([_filters(path, convolution, share) for share in _runs(outs)], takes)


def _filters(path: Path, convolution: nn.Conv2d, share: range) -> Path:
    """A copy of a path whose first convolution has some of its filters, and its norm their figures."""
    made = copy.deepcopy(path)
    made.channels = len(share)
    mine = next(layer for layer in made.edge.modules() if isinstance(layer, nn.Conv2d))
    rows = slice(share.start, share.stop)
    if mine.groups > 1:
        each = mine.out_channels // mine.groups
        mine.groups = len(share) // each
        mine.in_channels = convolution.in_channels // convolution.groups * mine.groups
    mine.out_channels = len(share)
    for layer in made.edge.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.num_features = len(share)
        if layer is mine or isinstance(layer, nn.BatchNorm2d):
            _cut(layer, rows)
    return made


def _cut(layer: nn.Module, rows: slice) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(layer, name, None)
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, nn.Parameter(tensor.detach()[rows].clone(), tensor.requires_grad))
        elif isinstance(tensor, torch.Tensor):
            setattr(layer, name, tensor[rows].clone())


def _shares(whole: int, count: int) -> list[int]:
    """So many parts of a whole, as equal as can be, the greater first."""
    if whole < count:
        raise TransformError(f"{whole} channels or groups cannot be shared among {count} branches")
    return [math.ceil((whole - i) / count) for i in range(count)]


def _runs(lengths: Sequence[int]) -> Iterator[range]:
    start = 0
    for length in lengths:
        yield range(start, start + length)
        start += length
