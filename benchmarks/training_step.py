"""Images a second of a training step on a CPU, over the same network in PyTorch as it comes.

Both sides are child processes that take turns, step by step: the settings of the memory allocator hold
for a whole process. The plain side has contiguous tensors, PyTorch's own layers and allocator.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from gradients import layer_errors, plain
from harness import Figure, alternate, parser, publish, ratio

NETWORKS = ("mobilenetv2", "mean path")
SIZES = (28, 32, 64)
CLASSES = 10


def plan_of(network: str, size: int) -> Any:
    from netsmith.spaces.mbconv import mbconv
    from netsmith.spaces.mobilenetv2 import mobilenetv2

    shape = (1 if size == 28 else 3, size, size)
    if network == "mobilenetv2":
        return mobilenetv2(shape, CLASSES)
    space, rng = mbconv(shape, CLASSES), random.Random(0)
    plans = [space.plan(space.sample(rng)) for _ in range(100)]
    macs = [sum(map(macs_of, plan.blocks)) for plan in plans]
    mean = statistics.mean(macs)
    return min(zip(macs, plans, strict=True), key=lambda pair: abs(pair[0] - mean))[1]


def macs_of(block: Any) -> int:
    """Multiply-adds of the convolutions of a block."""
    height, width = block.output_size
    if block.op == "conv":
        return block.kernel**2 * block.in_channels * block.out_channels * height * width
    if block.op == "mbconv":
        expand = block.in_channels * block.hidden * block.height * block.width
        rest = block.kernel**2 * block.hidden + block.hidden * block.out_channels
        return expand * (block.hidden != block.in_channels) + rest * height * width
    return block.in_channels * block.hidden * height * width if block.op == "head" else 0


def make(job: tuple[str, int, int, int], ours: bool, wide: bool = False) -> Callable[[bool], list[Any]]:
    """Build network, batch and optimizer; return one step, which can give the gradients as arrays."""
    import torch
    import torch.nn.functional as F

    from netsmith.nn.network import Network

    network, size, batch, threads = job
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = Network(plan_of(network, size))
    x = torch.randn(batch, 1 if size == 28 else 3, size, size)
    y = torch.randint(0, CLASSES, (batch,))
    if ours:
        module, x = (
            module.to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    else:
        plain(module)
    if wide:
        module, x = module.double(), x.double()
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9, weight_decay=4e-5)

    def step(gradients: bool) -> list[Any]:
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        found = [p.grad.double().numpy() for p in module.parameters()] if gradients else []
        optimizer.step()
        return found

    return step


def serve(pipe: Connection, ours: bool) -> None:
    """Answer the parent: build a job, give its first gradients, or run one step and give its seconds."""
    if ours:
        from netsmith.nn.runtime import keep_memory

        keep_memory()
    step = None
    while (order := pipe.recv()) is not None:
        if isinstance(order, tuple):
            pipe.send(make(order, ours)(True))
            step = make(order, ours)
        elif step is not None:
            start = time.perf_counter(), time.process_time()
            step(False)
            pipe.send((time.perf_counter() - start[0], time.process_time() - start[1]))


class Side:
    """One child process."""

    def __init__(self, ours: bool) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.child = context.Process(target=serve, args=(theirs, ours), daemon=True)
        self.child.start()

    def ask(self, order: object) -> Any:
        self.pipe.send(order)
        return self.pipe.recv()

    def close(self) -> None:
        self.pipe.send(None)
        self.child.join()


def difference(first: list[Any], second: list[Any]) -> float:
    """Largest difference of a parameter's gradients, relative to the largest value of them all."""
    largest = max(abs(b).max() for b in second)
    return max(float(abs(a - b).max() / largest) for a, b in zip(first, second, strict=True))


def compare(sides: tuple[Side, Side], job: tuple[str, int, int, int], repeats: int) -> list[Figure]:
    """Measure one network at one size."""
    ours, stock = sides
    network, size, batch, threads = job
    name = f"{network}, {size}x{size}"
    ours_gradients, stock_gradients = ours.ask(job), stock.ask(job)
    layer_error, stock_layer_error = layer_errors(plan_of(network, size), batch, threads)
    exact = make(job, ours=False, wide=True)(True)
    pairs: list[list[Any]] = alternate([lambda: ours.ask(1), lambda: stock.ask(1)], repeats)
    (fast, fast_cpu), (slow, slow_cpu) = (zip(*times, strict=True) for times in pairs)
    return [
        Figure(f"{name}: images a second", batch / statistics.median(fast), "1/s"),
        Figure(f"{name}: images a second, stock PyTorch", batch / statistics.median(slow), "1/s"),
        Figure(f"{name}: speed over stock PyTorch", ratio(slow, fast), "x", ">= 4"),
        Figure(f"{name}: of the fastest steps", min(slow) / min(fast), "x"),
        Figure(f"{name}: of processor time", ratio(slow_cpu, fast_cpu), "x"),
        Figure(f"{name}: gradient of any layer, error against float64", layer_error, "", "<= 1e-5"),
        Figure(f"{name}: the same of stock PyTorch", stock_layer_error),
        Figure(f"{name}: gradients of the network, difference", difference(ours_gradients, stock_gradients)),
        Figure(f"{name}: gradients of the network, error against float64", difference(ours_gradients, exact)),
        Figure(f"{name}: the same of stock PyTorch", difference(stock_gradients, exact)),
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--repeats", type=int, default=10)
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    chosen = arguments.parse_args()
    figures: list[Figure] = []
    for size in chosen.sizes:
        for network in NETWORKS:
            sides = Side(ours=True), Side(ours=False)
            figures += compare(sides, (network, size, chosen.batch, chosen.threads), chosen.repeats)
            for side in sides:
                side.close()
            print(*(f"{f.name}: {f.value:.4g} {f.unit}" for f in figures[-10:]), sep="\n", file=sys.stderr)
    publish(figures, chosen.json)


if __name__ == "__main__":
    main()
