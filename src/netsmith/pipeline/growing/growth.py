"""A trained network and what it can grow into: a tree of paths in the place of every larger convolution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.errors import TransformError
from netsmith.nn.count import Counts
from netsmith.pipeline.base import Base
from netsmith.pipeline.finish import counts_of, training_recipe
from netsmith.pipeline.work import SEARCH_BATCH, Work
from netsmith.spaces.tree import EDGES, LAYER, Node, TreeSpace
from netsmith.train import Recipe
from netsmith.transform.moves import break_symmetry
from netsmith.transform.settle import repair, settle
from netsmith.transform.sites import Site, grown, sites_of

LEAST_CHANNELS = 8  # so that a tree of the greatest depth can halve them at every node
# Of the release: batches for statistics, images that outputs are matched on, and the learning rate of a child
# over that of a training from scratch.
SETTLING_BATCHES, REPAIR_IMAGES, RATE = 10, 1000, 0.35
# Of a final training's epochs, the most that a child's has where none are asked for: 20 of 300 published.
LENGTH = 0.15
REPAIR_EPOCHS = {"quick": 3, "standard": 10, "thorough": 30}


class Growth:
    """The base of a design with the layers that can grow: one tree for all of them is an arch.

    ``untouched`` says why other convolutions stay as they are. Raises :class:`TransformError` where none can
    grow.
    """

    def __init__(self, work: Work, base: Base) -> None:
        self.work, self.base = work, base
        self.sites, self.untouched = growing_sites(base.module)
        if not self.sites:
            why = "; ".join(f"'{name}': {reason}" for name, reason in self.untouched.items())
            raise TransformError(f"no layer of this network can grow. {why or 'it has no convolution':.1000}")
        self.space = TreeSpace(base.digest)
        self._counts: dict[Arch, Counts] = {}

    @property
    def least(self) -> Arch:
        """The base as it is."""
        return self.space.arch_of(None)

    def key(self, arch: Arch) -> str:
        """The digest of the arch."""
        return arch.digest

    def counts(self, arch: Arch) -> Counts:
        """Count the grown network."""
        if arch not in self._counts:
            self._counts[arch] = counts_of(self.work, self.made(arch))
        return self._counts[arch]

    def made(self, arch: Arch) -> nn.Module:
        """Return the base with trees that change nothing but where they pool."""
        return grown(self.base.module, self.sites, self.space.tree(arch))[0]

    def begun(self, arch: Arch) -> nn.Module:
        """Return the grown network ready to be trained: norms settled, copies apart, pooling repaired."""
        node, seed = self.space.tree(arch), self.work.settings.seed
        module, trees, inexact = grown(self.base.module, self.sites, node)
        settle(module, islice(self._images(0), SETTLING_BATCHES))
        for number, tree in enumerate(trees):
            break_symmetry(tree, seed + number)
        if inexact:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                epochs = REPAIR_EPOCHS[self.work.settings.budget]
                found = repair(module, self.base.module, self._images(REPAIR_IMAGES), epochs=epochs)
            self.work.once("repaired", found._asdict, digest=arch.digest)
        return module.eval()

    def suited(self, recipe: Recipe) -> Recipe:
        """Return the recipe of a child: at a lower learning rate and for less, for it has learned already.

        It takes as many epochs as were asked for, where that was said.
        """
        epochs = recipe.epochs
        if self.work.settings.search_epochs is None:
            final = training_recipe(self.work, self.base.module).epochs
            epochs = min(epochs, math.ceil(final * LENGTH))
        warmup = min(recipe.warmup_epochs, epochs / 10)
        return replace(recipe, lr=RATE * recipe.lr, epochs=epochs, warmup_epochs=warmup)

    def words(self, arch: Arch) -> str:
        """Tell the tree."""
        return str(self.space.tree(arch) or "the base")

    def features(self, arch: Arch) -> list[float]:
        """How often the tree has each operation and each way to put together."""
        tree = self.space.tree(arch)
        found = Counter(_parts(tree) if tree is not None else [LAYER])
        return [float(found[name]) for name in (LAYER, *EDGES, "add", "concat")]

    def described(self, arch: Arch) -> dict[str, Any]:
        """Return what rebuilds the grown network, and what the report draws; of own modules not the base."""
        node = self.space.tree(arch)
        return {
            "grown": {
                "base": dict(self.base.described),
                "network": self.space.network,
                "layers": [site.layer for site in self.sites],
                "untouched": dict(self.untouched),
                "tree": None if node is None else node.to_dict(),
            }
        }

    def _images(self, limit: int) -> Iterator[torch.Tensor]:
        loader = self.work.loader(self.work.splits.train, SEARCH_BATCH, salt=8, limit=limit)
        return (x for x, _ in loader.epoch(0))


def _parts(node: Node) -> Iterator[str]:
    yield node.merge
    for branch in node.branches:
        yield branch.edge
        if branch.node is not None:
            yield from _parts(branch.node)


def growing_sites(module: nn.Module) -> tuple[tuple[Site, ...], dict[str, str]]:
    """Return the convolutions that can grow, and why others cannot.

    That which reads the images stays for its few channels; so it is published: the cell is that of blocks.
    """
    found = sites_of(module)
    kept, untouched = [], dict(found.untouched)
    for site in found.found:
        layer = module.get_submodule(site.layer)
        assert isinstance(layer, nn.Conv2d)
        if min(layer.in_channels, layer.out_channels) < LEAST_CHANNELS:
            untouched[site.layer] = f"it takes or gives fewer than {LEAST_CHANNELS} channels"
        else:
            kept.append(site)
    return tuple(kept), untouched
