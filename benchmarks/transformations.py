"""What transformations of paths change in what a network computes: nothing, and with pooling a little.

Two hundred networks like VGG, ResNet and MobileNet, of random widths, weights and statistics, have up to four
of their convolutions grown into random trees without pooling, and random channels copied (Net2Net): the worst
difference of a logit is shown. Then each kind is trained on part of Fashion-MNIST, and four of its
convolutions are grown into a random tree with pooling, which changes what they compute; then repaired by the
logits that they had on training images, as every search does: what the trees did to logits and to test
accuracy is shown before and after. Last, the published cell in the published networks has the published
parameters.

    python benchmarks/transformations.py --data ../shared/data --json transformations.json
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from channel_pruning import Effort, Images, base_of
from harness import Figure, Record, Records, parser, publish
from networks import NETWORKS
from torch import nn

from netsmith.arch import Arch
from netsmith.compress.dependencies import channels_of
from netsmith.nn.densenet import densenet
from netsmith.nn.pyramidnet import pyramidnet
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.growing.growth import REPAIR_EPOCHS, REPAIR_IMAGES, growing_sites
from netsmith.spaces.tree import TREE_CELL_A, TreeSpace
from netsmith.train import evaluate
from netsmith.transform.moves import INEXACT, grow
from netsmith.transform.settle import repair, settle
from netsmith.transform.sites import grown, sites_of, with_trees
from netsmith.transform.widen import widened, widening

SHAPE, CLASSES = (3, 32, 32), 10
SPACE = TreeSpace("any")
SITES, GROUPS, COPIED = 4, 3, 3  # at most, of a network
CLOSE = 1e-5


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/transformations.json"))
    arguments.add_argument("--networks", type=int, default=200, help="that are drawn")
    arguments.add_argument("--images", type=int, default=4000)
    arguments.add_argument("--epochs", type=int, default=4, help="of the networks that are repaired")
    arguments.add_argument("--trees", type=int, default=4, help="with pooling, of each kind of network")
    options = arguments.parse_args()
    if not (options.data / "fashion_mnist").exists():
        print(f"skipped: {options.data} holds no fashion_mnist")
        return
    keep_memory()
    records = Records(options.records)
    exact = records.once(f"{options.networks} networks", partial(worst_of, options.networks))
    figures = [*figures_of_exact(exact), *figures_of_cell()]
    images = Images("Fashion-MNIST", options.data, Effort(options.images, options.epochs, 0, 0))
    for name in NETWORKS:
        run = partial(repairs, name, images, options)
        figures += figures_of_repairs(name, records.once(f"{name}, {options.trees} trees", run))
    publish(figures, options.json)


def worst_of(networks: int) -> Record:
    """Return the worst difference that random trees and copies make, and how many trees there were."""
    worst, trees, sizes = 0.0, 0, []
    for seed in range(networks):
        rng, base = Random(seed), random_network(seed)
        sites, _ = growing_sites(base)
        chosen = rng.sample(sites, rng.randint(1, min(SITES, len(sites))))
        moved, planted = with_trees(base, chosen)
        for tree in planted.values():
            grow(tree, SPACE.tree(drawn(rng, pooling=False)))
        wider = copied(base, rng)
        x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected = base(x)
            for other in (moved, wider):
                worst = max(worst, float((other.eval()(x) - expected).abs().max()))
            sizes.append(float(expected.abs().mean()))
        trees += len(planted)
    return {"worst": worst, "size": statistics.mean(sizes), "trees": trees}


def random_network(seed: int) -> nn.Module:
    """A network whose norms have seen something else than their batches' statistics say."""
    rng = Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = rng.choice(list(NETWORKS.values()))(SHAPE[0], CLASSES, rng.uniform(0.5, 1.0))
        with torch.no_grad():
            made(2 * torch.randn(16, *SHAPE) + 0.5)
            for layer in made.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.weight, 0.5, 1.5)
                    nn.init.normal_(layer.bias, 0, 0.3)
    return made.eval()


def drawn(rng: Random, *, pooling: bool) -> Arch:
    """Draw a tree, with pooling or without."""
    while True:
        arch = SPACE.sample(rng)
        if any(kind in str(SPACE.tree(arch)) for kind in INEXACT) == pooling:
            return arch


def copied(base: nn.Module, rng: Random) -> nn.Module:
    """Return the network with copies of some channels of some groups."""
    channels = widening(channels_of(base, SHAPE))
    some = rng.sample(channels.groups, min(GROUPS, len(channels.groups)))
    extras = {
        group.name: [rng.randrange(group.channels) for _ in range(rng.randint(1, COPIED))] for group in some
    }
    return widened(base, channels, extras)


def repairs(name: str, images: Images, options: Any) -> Record:
    """Return what trees with pooling do to a trained network, and what is left of that after repair."""
    base = base_of(name, images, options.epochs, 0).eval()
    sites, _ = growing_sites(base)
    shown = [x for x, _ in islice(images.plain.epoch(0), math.ceil(REPAIR_IMAGES / 256))]
    with torch.no_grad():
        spread = float(torch.cat([base(x) for x in shown]).var())
    found = []
    for seed in range(options.trees):
        rng = Random(seed)
        node = SPACE.tree(drawn(rng, pooling=True))
        module, _, _ = grown(base, rng.sample(sites, min(SITES, len(sites))), node)
        settle(module, shown)
        first = evaluate(module.eval(), images.test).accuracy
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed = repair(module, base, shown, epochs=REPAIR_EPOCHS["quick"])
        found.append({
            "tree": str(node),
            "before": changed.before / spread,
            "after": changed.after / spread,
            "accuracy_before": first,
            "accuracy_after": evaluate(module, images.test).accuracy,
        })  # fmt: skip
    return {"base": evaluate(base, images.test).accuracy, "trees": found}


def figures_of_exact(found: Record) -> Iterator[Figure]:
    yield Figure("worst difference of a logit, random networks", found["worst"], bar=f"<= {CLOSE}")
    yield Figure("logits of these networks, mean without sign", found["size"])
    yield Figure("convolutions grown into trees without pooling", found["trees"])


def figures_of_cell() -> Iterator[Figure]:
    """TreeCell-A in the place of every 3x3 convolution but the first (Cai et al. 2018, table 1)."""
    for name, make, millions in (
        ("PyramidNet 18, alpha 84, G 2", partial(pyramidnet, 18, 84, 2), 5.7),
        ("DenseNet 16, k 48, G 2", partial(densenet, 16, 48, 2), 13.1),
    ):
        with torch.device("meta"):
            base = make()
        _, *sites = sites_of(base).found
        module, _, _ = grown(base, sites, TREE_CELL_A)
        params = sum(parameter.numel() for parameter in module.parameters())
        yield Figure(f"TreeCell-A in {name}: parameters", params / 1e6, "M")
        off = abs(params / 1e6 / millions - 1)
        yield Figure(f"TreeCell-A in {name}: off the published {millions} M", 100 * off, "%", "<= 1")


def figures_of_repairs(name: str, found: Record) -> Iterator[Figure]:
    yield Figure(f"{name}: base, test accuracy", 100 * found["base"], "%")
    for when in ("before", "after"):
        differences = [tree[when] for tree in found["trees"]]
        title = f"{name}, trees with pooling, {when} repair: squared difference of logits"
        yield Figure(f"{title}, of their variance, mean", 100 * statistics.mean(differences), "%")
        yield Figure(f"{title}, of their variance, worst", 100 * max(differences), "%")
        accuracies = [tree[f"accuracy_{when}"] for tree in found["trees"]]
        accuracy = f"{name}, trees with pooling, {when} repair: test accuracy"
        yield Figure(f"{accuracy}, mean", 100 * statistics.mean(accuracies), "%")
        yield Figure(f"{accuracy}, least", 100 * min(accuracies), "%")


if __name__ == "__main__":
    main()
