"""Where a network can be grown: convolutions with what belongs to them, found in its traced forward."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from netsmith.errors import TransformError
from netsmith.nn.layers import BatchNormReLU, BatchNormReLU6
from netsmith.nn.tree import Activation, Tree
from netsmith.spaces.tree import Node
from netsmith.transform.moves import grow, planted

_RELUS: Mapping[Any, Activation] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", F.relu: "relu", torch.relu: "relu", F.relu6: "relu6", "relu": "relu",
    "relu_": "relu",
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A convolution, the batch norm that alone reads it, and the activation behind that.

    ``norm`` is None where another layer reads the convolution; the activation then is "none".
    """

    layer: str
    norm: str | None
    activation: Activation


@dataclass(frozen=True)
class Sites:
    """The convolutions that can be grown, in the order in which they run, and why others cannot."""

    found: tuple[Site, ...]
    untouched: Mapping[str, str]


def sites_of(module: nn.Module) -> Sites:
    """Find the convolutions of ``module`` that are larger than 1x1 and run once, by tracing its forward.

    Raises :class:`TransformError` where it cannot be traced.
    """
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # whatever a foreign module's forward raises
        raise TransformError(
            f"the network cannot be traced, so that no layer of it can be grown: {error}. Write its forward "
            "without branches that depend on values"
        ) from error
    layers = dict(module.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    runs = {name: sum(node.target == name for node in calls) for name in layers}
    found, untouched = [], {}
    for node in calls:
        layer = layers[node.target]
        if not isinstance(layer, nn.Conv2d):
            continue
        reason = _refused(layer, runs[node.target])
        if reason:
            untouched[node.target] = reason
        else:
            found.append(_site(node, layers, runs))
    return Sites(tuple(found), untouched)


def with_trees(module: nn.Module, sites: Sequence[Site]) -> tuple[nn.Module, dict[str, Tree]]:
    """Return a copy of ``module`` with a tree of one path at every site, and the trees by their layers.

    Norm and activation move into the tree with the convolution. An activation that stays behind it too
    changes nothing that has passed it.
    """
    made = copy.deepcopy(module)
    trees = {}
    for site in sites:
        layer = made.get_submodule(site.layer)
        assert isinstance(layer, nn.Conv2d)
        unit: nn.Module = layer
        if site.norm is not None:
            norm = made.get_submodule(site.norm)
            behind = _activation(site.activation) if type(norm) not in (BatchNormReLU, BatchNormReLU6) else []
            unit = nn.Sequential(layer, norm, *behind)
            made.set_submodule(site.norm, nn.Identity())
        trees[site.layer] = planted(unit, layer.out_channels, site.activation)
        made.set_submodule(site.layer, trees[site.layer])
    return made, trees


def grown(module: nn.Module, sites: Sequence[Site], node: Node | None) -> tuple[nn.Module, list[Tree], bool]:
    """Return a copy of ``module`` with ``node`` grown at all sites, its trees, and whether they pool."""
    made, trees = with_trees(module, sites)
    inexact = [grow(tree, node) for tree in trees.values()]
    return made, list(trees.values()), any(inexact)


class _Tracer(fx.Tracer):
    """Traces down to convolutions and norms, ours too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _refused(layer: nn.Conv2d, runs: int) -> str:
    """Why a convolution is left as it is; empty where it can be grown."""
    if max(layer.kernel_size) == 1:
        return "it is 1x1"
    if runs > 1:
        return f"it runs {runs} times"
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return f"its padding is {layer.padding!r} of mode '{layer.padding_mode}'"
    return ""


def _site(node: fx.Node, layers: Mapping[str, nn.Module], runs: Mapping[str, int]) -> Site:
    after = _only_reader(node)
    if after is None or after.op != "call_module" or runs[str(after.target)] > 1:
        return Site(str(node.target), None, "none")
    norm = layers[str(after.target)]
    if not isinstance(norm, nn.BatchNorm2d):
        return Site(str(node.target), None, "none")
    if isinstance(norm, BatchNormReLU | BatchNormReLU6):
        return Site(
            str(node.target), str(after.target), "relu" if isinstance(norm, BatchNormReLU) else "relu6"
        )
    behind = _only_reader(after)
    called: Any = None
    if behind is not None:
        called = type(layers[str(behind.target)]) if behind.op == "call_module" else behind.target
    return Site(str(node.target), str(after.target), _RELUS.get(called, "none"))


def _only_reader(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _activation(name: Activation) -> list[nn.Module]:
    return [{"relu": nn.ReLU, "relu6": nn.ReLU6}[name]()] if name != "none" else []
