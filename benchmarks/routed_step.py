"""A training step of a routed supernet, by groups of images, over one that computes everything and masks it.

The same supernet of InstaNAS's space, batch and policies, each operation active with some probability. By
groups an operation runs on the images that chose it, as in netsmith; dense, each runs on every image, and
what was not chosen is multiplied by zero. The two take turns, step by step.

    OMP_NUM_THREADS=1 python benchmarks/routed_step.py --json routed_step.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import Figure, alternate, parser, publish, ratio
from torch import nn

from netsmith.nn.runtime import channels_last, keep_memory
from netsmith.spaces.routed import RoutedSpace, routed
from netsmith.supernet.policies import complete
from netsmith.supernet.routed import RoutedEdge, RoutedSupernet

SETTINGS = {"28px": (1, 28, 28), "32px": (3, 32, 32)}
ACTIVE = (1.0, 0.5, 0.25, 0.1)
CLASSES = 10


class Dense(nn.Module):
    """The supernet where every operation runs on every image, and what an image has not chosen is zero."""

    def __init__(self, supernet: RoutedSupernet) -> None:
        super().__init__()
        self.supernet = supernet

    def forward(self, x: torch.Tensor, policies: torch.Tensor) -> torch.Tensor:
        active = complete(self.supernet.space, policies)
        x = self.supernet.stem(x)
        for i, edge in enumerate(self.supernet.routed_edges):
            x = masked(edge, x, active[:, i].to(x.dtype))
        logits: torch.Tensor = self.supernet.head(x)
        return logits


def masked(edge: RoutedEdge, x: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
    """The edge's sum for (N, C, H, W), with every operation computed; active (N, operations) is 0 or 1."""
    total = sum(
        operation(x) * column[:, None, None, None]
        for operation, column in zip(edge.operations, active.unbind(1), strict=True)
    )
    return total + x if edge.skippable else total


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--width", type=float, default=0.6)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    keep_memory()
    figures = []
    for name, shape in SETTINGS.items():
        space = routed(shape, CLASSES, width=options.width)
        for p in ACTIVE:
            figures += figures_of(f"{name}, each operation at {p:g}", space, p, options.batch, options.rounds)
    publish(figures, options.json)


def figures_of(name: str, space: RoutedSpace, p: float, batch: int, rounds: int) -> list[Figure]:
    torch.manual_seed(0)
    supernet = channels_last(RoutedSupernet(space))
    dense = Dense(supernet)
    x = torch.randn(batch, *space.input_shape).to(memory_format=torch.channels_last)
    y = torch.randint(CLASSES, (batch,))
    policies = torch.rand(batch, len(space.edges), len(space.edges[0])) < p
    with torch.no_grad():  # normalised by running statistics, both are the same function
        torch.testing.assert_close(
            supernet.eval()(x, policies), dense.eval()(x, policies), rtol=1e-4, atol=1e-4
        )
    dense.train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=1e-3, momentum=0.9)

    def stepper(network: nn.Module) -> Callable[[], float]:
        def step() -> float:
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(x, policies), y).backward()
            optimizer.step()
            return time.perf_counter() - started

        return step

    by_groups, whole = alternate([stepper(supernet), stepper(dense)], rounds)
    return [
        Figure(f"{name}: by groups", batch / statistics.median(by_groups), "images/s"),
        Figure(f"{name}: dense", batch / statistics.median(whole), "images/s"),
        Figure(f"{name}: throughput by groups over dense", ratio(whole, by_groups), "x"),
    ]


if __name__ == "__main__":
    main()
