"""What choosing bits per layer is worth on scikit-learn's digits, without fine-tuning, at equal evaluations.

A small network of depthwise-separable blocks is trained once a seed. Under a limit of what 8 bits cost, its
bits are the same everywhere; by the integer programme over what single layers lose in cross-entropy; by HAQ's
agent; or the best of random policies lowered to the limit. The last two score as many policies on the
validation images as the programme does. Test images choose nothing. What was finished is in the records file.

    OMP_NUM_THREADS=1 python benchmarks/mixed_precision.py --json mixed_precision.json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from harness import Figure, Record, Records, parser, publish
from sklearn.datasets import load_digits
from torch import Tensor, nn

from netsmith.compress.accelerators import BISMO_EDGE, ConvShape
from netsmith.compress.fake_quant import fake_quantized, layer_shapes
from netsmith.compress.precision import (
    Cost,
    LayerBits,
    Policy,
    Precision,
    least_loss,
    losses_alone,
    lowered,
    search_precision,
    uniform,
)

WAYS = ("float", "uniform", "programme", "agent", "random")
SHARES = {"bit products": 0.35, "simulated BISMO edge latency": 0.5}  # of the cost of 8 bits
Split = tuple[Tensor, Tensor]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--records", type=Path, default=Path("benchmarks/records/mixed_precision.json"))
    asked = options.parse_args()
    records = Records(asked.records)
    figures = []
    for cost, share in SHARES.items():
        runs = [
            records.once(f"{cost}, {share}, seed {seed}", lambda c=cost, s=share, n=seed: compare(c, s, n))
            for seed in range(asked.seeds)
        ]
        title = f"digits, {100 * share:.0f} % of 8 bits' {cost}"
        figures += [Figure(f"{title}: policies scored", statistics.mean(run["scored"] for run in runs))]
        for way in WAYS:
            accuracy = statistics.mean(run[way] for run in runs)
            figures.append(Figure(f"{title}: {way}, test accuracy, mean", 100 * accuracy, "%"))
        for better, worse in (("agent", "random"), ("agent", "uniform"), ("programme", "uniform")):
            gains = [100 * (run[f"{better}, validation"] - run[f"{worse}, validation"]) for run in runs]
            name = f"{title}: {better} over {worse}, validation, mean"
            figures.append(Figure(name, statistics.mean(gains), "points", ">= 0"))
    publish(figures, asked.json)


def compare(cost: str, share: float, seed: int) -> Record:
    """Return the accuracies of each way's policy on test and validation images."""
    train, held, test = digits(seed)
    module = trained(train, seed)
    shapes = layer_shapes(module, train[0][:1])
    scored: list[Policy] = []

    def accuracy_of(policy: Policy, images: Split) -> float:
        bits = dict(zip(shapes, policy, strict=True))
        return accuracy(fake_quantized(module, bits, [train[0][:200]]), images)

    def score(policy: Policy) -> float:
        scored.append(policy)
        return accuracy_of(policy, held)

    def likelihood(policy: Policy) -> float:
        """Return the mean log likelihood, which says more of 300 images than how many are right."""
        scored.append(policy)
        bits = dict(zip(shapes, policy, strict=True))
        with torch.no_grad():
            logits = fake_quantized(module, bits, [train[0][:200]]).eval()(held[0])
        return -float(F.cross_entropy(logits, held[1]))

    asked = limited(list(shapes.values()), cost, share)
    policies = {"uniform": uniform(asked), "programme": least_loss(asked, losses_alone(asked, likelihood))}
    evaluations = len(scored)
    found = search_precision(
        asked, score, seed=seed, episodes=evaluations, warmup=evaluations // 4, decay=0.95
    )
    policies |= {"agent": found.policy, "random": best_at_random(asked, score, evaluations, seed)}
    record: Record = {"scored": evaluations, "float": accuracy(module, test)}
    for way, policy in policies.items():
        record[way] = accuracy_of(policy, test)
        record[f"{way}, validation"] = accuracy_of(policy, held)
    return record


def limited(shapes: list[ConvShape], cost: str, share: float) -> Precision:
    costs: dict[str, Cost] = {
        "bit products": lambda layer, bits: shapes[layer].macs * bits.weights * bits.inputs,
        "simulated BISMO edge latency": lambda layer, bits: BISMO_EDGE.latency_ms(shapes[layer], *bits),
    }
    eight = sum(costs[cost](layer, LayerBits(8, 8)) for layer in range(len(shapes)))
    return Precision(shapes, costs[cost], share * eight)


def best_at_random(asked: Precision, score: Callable[[Policy], float], draws: int, seed: int) -> Policy:
    rng = Random(seed)
    layers = [asked.options(layer) for layer in range(len(asked.layers))]
    drawn = [
        lowered(asked, tuple(LayerBits(rng.choice(o.weights), rng.choice(o.inputs)) for o in layers))
        for _ in range(draws)
    ]
    return max(drawn, key=score)


def digits(seed: int) -> tuple[Split, Split, Split]:
    """Return 1000 images to train, 300 to choose by and 497 to test, in a draw of the seed."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    x = torch.from_numpy(images / 8 - 1).float().reshape(-1, 1, 8, 8)[order]
    y = torch.from_numpy(labels)[order]
    return (x[:1000], y[:1000]), (x[1000:1300], y[1000:1300]), (x[1300:], y[1300:])


def trained(images: Split, seed: int, epochs: int = 20) -> nn.Module:
    """Return the float network after ``epochs`` of Adam."""
    torch.manual_seed(seed)
    blocks = [layer for sizes in ((16, 24, 1), (24, 32, 2), (32, 48, 1)) for layer in separable(*sizes)]
    stem = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    module = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(module.parameters(), 0.005)
    x, y = images
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(x[rows]), y[rows]))
            optimizer.step()
    return module.eval()


def separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Return a depthwise convolution and a 1x1 convolution, each with norm and ReLU."""
    return [
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def accuracy(module: nn.Module, images: Split) -> float:
    module.eval()
    with torch.no_grad():
        return float((module(images[0]).argmax(1) == images[1]).float().mean())


if __name__ == "__main__":
    main()
