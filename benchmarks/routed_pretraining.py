"""What pre-training teaches a routed supernet, where each operation adds the input or an edge does, once.

A supernet of InstaNAS's space on a part of Fashion-MNIST, pre-trained for as many images in two ways: each
MBConv adds the input, as in the release; and an edge adds it once, beside operations that begin small, as in
netsmith. Then every validation image takes a path drawn at random, of which each operation is with some
probability: the weights by which a controller would judge. What was finished is in the records file.

    OMP_NUM_THREADS=1 python benchmarks/routed_pretraining.py --data ../shared/data/fashion_mnist \
        --json routed_pretraining.json
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from harness import Figure, Record, Records, ahead, data_parser, publish
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netsmith.data import Images, Loader, batch_generator, channel_statistics, load
from netsmith.nn.runtime import channels_last, keep_memory
from netsmith.pipeline.routing.descent import MOST_DROPPED, WHOLE_SHARE
from netsmith.spaces.routed import routed
from netsmith.supernet.instance import pretrain
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.routed import RoutedEdge, RoutedSupernet
from netsmith.train import evaluate, recalibrate
from netsmith.train.recipe import fit_lr

WAYS = {"each": "each MBConv adds the input", "once": "an edge adds it once"}
ACTIVE = (0.25, 0.5, 1.0)
BATCH, VALIDATION, CALIBRATION_BATCHES = 64, 1000, 8


class EachAdds(nn.Module):
    """An edge of which each active MBConv adds the input, as in the release; without any it is a skip."""

    def __init__(self, edge: RoutedEdge) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, x: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        times = active[:, :-1].sum(1) + ~active.any(1)  # all but the last are MBConvs
        out: torch.Tensor = self.edge(x, active) + (times - 1)[:, None, None, None] * x
        return out


class Drawn(nn.Module):
    """A supernet in which each image takes a path that has each operation with probability ``p``."""

    def __init__(self, supernet: RoutedSupernet, p: float) -> None:
        super().__init__()
        self.supernet, self.p, self.generator = supernet, p, batch_generator(0, "drawn")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = len(x), len(self.supernet.edges), len(self.supernet.space.edges[0])
        out: torch.Tensor = self.supernet(x, torch.rand(shape, generator=self.generator) < self.p)
        return out


def main() -> None:
    arguments = data_parser(__doc__ or "", "routed_pretraining")
    arguments.add_argument("--images", type=int, default=7000, help="of the training part")
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--width", type=float, default=0.6)
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    keep_memory()
    images, records = load(str(options.data)).train, Records(options.records)
    found = {
        way: [
            records.once(f"{way} {seed}", partial(taught, way, seed, images, options))
            for seed in range(options.seeds)
        ]
        for way in WAYS
    }
    publish([figure for way in WAYS for figure in figures_of(way, found)], options.json)


def taught(way: str, seed: int, images: Images, options: Any) -> Record:
    """Validation accuracies, by the probability of an operation, of a supernet that was pre-trained."""
    order = torch.randperm(len(images), generator=batch_generator(seed, "part"))
    train, validation = (
        images.subset(order[: options.images]),
        images.subset(order[options.images :][:VALIDATION]),
    )
    mean, std = channel_statistics(train)
    loader = partial(Loader, mean=mean, std=std)
    torch.manual_seed(seed)
    supernet = channels_last(
        RoutedSupernet(routed(images.input_shape, len(images.label_names), width=options.width))
    )
    for i, edge in enumerate(supernet.routed_edges):
        if edge.skippable and way == "each":
            for norm in edge.modules():
                if isinstance(norm, _BatchNorm):
                    nn.init.ones_(norm.weight)
            supernet.edges[i] = EachAdds(edge)
    recipe = InstanceRecipe(
        pretrain_epochs=options.epochs, pretrain_lr=fit_lr(BATCH), whole_share=WHOLE_SHARE,
        most_dropped=MOST_DROPPED,
    )  # fmt: skip
    pretrain(supernet, loader(train, BATCH, seed=seed, drop_last=True), recipe, seed)
    accuracies = []
    for p in ACTIVE:
        drawn = Drawn(supernet, p)
        recalibrate(drawn, loader(train, 256, seed=3), CALIBRATION_BATCHES)
        accuracies.append(evaluate(drawn, loader(validation, 256, shuffle=False)).accuracy)
    return {"accuracies": accuracies}


def figures_of(way: str, found: dict[str, list[Record]]) -> list[Figure]:
    """Mean accuracies of one way over the seeds, and with few operations its gain over the release's."""
    rows = []
    for i, p in enumerate(ACTIVE):
        own, released = ([100 * piece["accuracies"][i] for piece in found[name]] for name in (way, "each"))
        rows.append(Figure(f"{WAYS[way]}: right, each operation at {p:g}", statistics.mean(own), "%"))
        if way == "once" and p < 1:
            gains = [a - b for a, b in zip(own, released, strict=True)]
            rows.append(ahead(f"more than the release's, at {p:g}", gains))
    return rows


if __name__ == "__main__":
    main()
