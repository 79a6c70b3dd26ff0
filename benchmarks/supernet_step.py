"""What a step of the search costs, over the same step of the sampled network built alone.

Every pair is timed in turn inside one run, and the ratio is the median over pairs, so that a shared
machine's drift cancels. On the full 21-block space in both stride settings at 32x32, and at 224x224.

    python benchmarks/supernet_step.py --json supernet_step.json
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from harness import Figure, parser, publish

from netsmith.arch import Arch
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.supernet.objective import PathCosts, add_linear
from netsmith.supernet.paths import Paths
from netsmith.supernet.proxyless import Reinforce, binary_gates, frozen, gradient_step, weight_step
from netsmith.supernet.supernet import Supernet

WIDTHS = ((24, 4), (40, 4), (80, 4), (96, 4), (192, 4), (320, 1))


def full_space(size: int, stem_stride: int, strides: tuple[int, ...]) -> ChainSpace:
    """The published chain of 21 blocks with these strides."""
    stages = [Stage(w, n, s) for (w, n), s in zip(WIDTHS, strides, strict=True)]
    return mbconv((3, size, size), 10, stages=stages, stem_stride=stem_stride)


SETTINGS = {
    "32px released strides": (full_space(32, 2, (2, 2, 2, 1, 2, 1)), 32, 12),
    "32px cifar strides": (full_space(32, 1, (1, 2, 2, 1, 2, 1)), 32, 6),
    "224px": (full_space(224, 2, (2, 2, 2, 1, 2, 1)), 4, 4),
}


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd holds after a forward pass: each storage once, parameters not."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.storages: dict[int, int] = {}
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.storages.values())


class Bench:
    """A supernet with everything that its steps need, and the plain networks to compare with."""

    def __init__(self, space: ChainSpace, batch: int, weights: str) -> None:
        torch.manual_seed(0)
        self.space = space
        self.supernet = Supernet(space, weights).to(memory_format=torch.channels_last).train()
        self.optimizer = sgd(self.supernet)
        self.generator = torch.Generator().manual_seed(0)
        self.paths = Paths(space, self.generator)
        self.alphas = torch.optim.Adam(self.paths.parameters(), lr=0.0, betas=(0.0, 0.999))
        self.costs = PathCosts.of(1.0, [[0.1] * len(options) for options in space.edges])
        self.reinforce = Reinforce()
        self.x = torch.randn(batch, *space.input_shape).to(memory_format=torch.channels_last)
        self.y = torch.randint(10, (batch,))

    def plain(self, arch: Arch) -> tuple[Network, torch.optim.Optimizer]:
        network = Network(self.space.plan(arch)).to(memory_format=torch.channels_last).train()
        optimizer = sgd(network)
        self.plain_step(network, optimizer)
        return network, optimizer

    def plain_step(self, network: Network, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(self.x), self.y).backward()
        optimizer.step()

    def weight(self, arch: Arch) -> None:
        weight_step(self.supernet, arch, self.optimizer, self.x, self.y)

    def architecture(self) -> None:
        gradient_step(
            self.supernet, self.paths, self.alphas, self.x, self.y, self.costs,
            lambda loss, expected: add_linear(loss, expected, 2.0, 0.1), self.generator,
        )  # fmt: skip

    def ten_samples(self) -> None:
        self.reinforce.step(
            self.supernet, self.paths, self.alphas, self.x, self.y, lambda arch, acc: acc, self.generator
        )

    def next_pair(self) -> tuple[Arch, Arch, torch.Tensor]:
        """The pair that the next architecture step will draw."""
        return self.paths.sample_pair(copy_of(self.generator))

    def all_paths_logits(self) -> torch.Tensor:
        """Every candidate of every edge, weighted by its probability (as DARTS computes it)."""
        x = self.supernet.stem(self.x)
        for edge, options, p in zip(
            self.supernet.edges, self.space.edges, self.paths.probabilities(), strict=True
        ):
            x = sum((p[i] * edge(x, i) for i in range(1, len(options))), p[0] * edge(x, 0))
        return self.supernet.head(x)

    def all_paths(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.alphas.zero_grad(set_to_none=True)
        F.cross_entropy(self.all_paths_logits(), self.y).backward()
        self.optimizer.step()
        self.alphas.step()


def sgd(module: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=4e-5)


def copy_of(generator: torch.Generator) -> torch.Generator:
    copy = torch.Generator()
    copy.set_state(generator.get_state())
    return copy


def seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def time_ratios(bench: Bench, rounds: int) -> dict[str, float]:
    """Medians over rounds of the time of each step over that of the plain network's step."""
    rng = Random(0)
    bench.weight(bench.space.sample(rng))
    bench.all_paths()
    found = []
    for _ in range(rounds):
        gc.collect()
        weight, all_paths = weight_ratios(bench, bench.space.sample(rng))
        found.append((weight, architecture_ratio(bench), reinforce_ratio(bench), all_paths))
    names = ("weight", "architecture", "reinforce", "all")
    return dict(zip(names, map(statistics.median, zip(*found, strict=True)), strict=True))


def weight_ratios(bench: Bench, arch: Arch) -> tuple[float, float]:
    """A weight step over the plain step of the same arch, and all paths at once over the weight step."""
    network, optimizer = bench.plain(arch)
    bench.weight(arch)
    plain, weight = in_turn(lambda: bench.plain_step(network, optimizer), lambda: bench.weight(arch))
    return weight / plain, min(seconds(bench.all_paths) for _ in range(2)) / weight


def architecture_ratio(bench: Bench) -> float:
    """A two-path architecture step over the plain step of the arch that it draws as active."""
    network, optimizer = bench.plain(bench.next_pair()[0])
    state = bench.generator.get_state()

    def same_draw() -> None:
        bench.generator.set_state(state)
        bench.architecture()

    same_draw()
    plain, step = in_turn(lambda: bench.plain_step(network, optimizer), same_draw)
    return step / plain


def reinforce_ratio(bench: Bench) -> float:
    """Ten REINFORCE samples over the mean plain step of the archs that they draw."""
    probe = copy_of(bench.generator)
    archs = [bench.paths.sample(probe) for _ in range(bench.reinforce.samples)]
    plain = statistics.mean(plain_seconds(bench, arch) for arch in archs)
    return seconds(bench.ten_samples) / plain


def plain_seconds(bench: Bench, arch: Arch) -> float:
    network, optimizer = bench.plain(arch)
    return min(seconds(lambda: bench.plain_step(network, optimizer)) for _ in range(2))


def in_turn(first: Callable[[], None], second: Callable[[], None], times: int = 3) -> tuple[float, float]:
    """The least time of each, taken in turn."""
    pairs = [(seconds(first), seconds(second)) for _ in range(times)]
    return min(a for a, _ in pairs), min(b for _, b in pairs)


def saved_ratios(bench: Bench, draws: int) -> dict[str, float]:
    """Saved bytes of each step's forward pass over the plain network's, of sums over draws."""
    rng = Random(1)
    totals = dict.fromkeys(("plain", "weight", "active", "architecture", "all"), 0)
    for _ in range(draws):
        arch = bench.space.sample(rng)
        network, _ = bench.plain(arch)
        totals["plain"] += saved(network, lambda net=network: net(bench.x))
        totals["weight"] += saved(bench.supernet, lambda a=arch: bench.supernet(bench.x, a))
        totals["all"] += saved(bench.supernet, bench.all_paths_logits)
        active, other, pairs = bench.paths.sample_pair(bench.generator)
        network, _ = bench.plain(active)
        totals["active"] += saved(network, lambda net=network: net(bench.x))
        gates, _ = binary_gates(bench.paths, pairs)
        with frozen(bench.supernet):
            totals["architecture"] += saved(
                bench.supernet, lambda a=active, o=other, g=gates: bench.supernet.gated(bench.x, a, o, g)
            )
    return {
        "weight": totals["weight"] / totals["plain"],
        "architecture": totals["architecture"] / totals["active"],
        "all": totals["all"] / totals["weight"],
    }


def saved(module: torch.nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    counter = SavedBytes(module)
    with counter:
        logits = forward()
    assert logits.grad_fn is not None
    return counter.total


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--weights", choices=["own", "shared"], default="own")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    figures = []
    for name in options.settings:
        space, batch, rounds = SETTINGS[name]
        bench = Bench(space, batch, options.weights)
        times, bytes_ = time_ratios(bench, rounds), saved_ratios(bench, 8)
        figures += [
            Figure(f"weight step over plain step, {name}", times["weight"], "x", "<= 1.03"),
            Figure(
                f"two-path architecture step over plain step, {name}", times["architecture"], "x", "<= 1.2"
            ),
            Figure(f"ten REINFORCE samples over plain step, {name}", times["reinforce"], "x", "<= 3.3"),
            Figure(f"all paths at once over weight step, {name}", times["all"], "x", ">= 5.5"),
            Figure(f"saved bytes of weight step over plain, {name}", bytes_["weight"], "x", "<= 1.1"),
            Figure(
                f"saved bytes of architecture step over plain, {name}", bytes_["architecture"], "x", "<= 1.1"
            ),
            Figure(f"saved bytes of all paths over weight step, {name}", bytes_["all"], "x", ">= 6"),
        ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
