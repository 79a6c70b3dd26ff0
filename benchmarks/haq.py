"""HAQ's figures on simulated accelerators: policies of bits against uniform ones, at equal fine-tuning.

A MobileNet-like network is trained on images of Fashion-MNIST. On each accelerator bits of weights and
inputs are chosen, layer by layer, so that latency and energy both fall against 8 bits everywhere: by the
integer programme over what single layers lose, by HAQ's agent, and the same for all layers. For size the
weights share values (k-means), and what counts are the bytes of the packed file, of this network and of a
VGG-like one whose weights are nearly all of it. Validation images choose bits, before any fine-tuning; every
policy is then fine-tuned alike with straight-through gradients, and tested once.

    OMP_NUM_THREADS=1 python benchmarks/haq.py --data ../shared/data --json haq.json
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from harness import Figure, Record, Records, fashion, parser, publish
from networks import mobilenet, vgg
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from netsmith.compress.accelerators import BISMO_CLOUD, BISMO_EDGE, BITFUSION, Accelerator, ConvShape
from netsmith.compress.fake_quant import fake_quantized, layer_shapes, packed
from netsmith.compress.packing import packed_bytes
from netsmith.compress.precision import (
    LayerBits,
    Loss,
    Policy,
    Precision,
    least_loss,
    losses_alone,
    search_precision,
    uniform,
)
from netsmith.compress.switched import Switched
from netsmith.data import Loader, channel_statistics
from netsmith.errors import BudgetError
from netsmith.nn.runtime import keep_memory
from netsmith.train import Recipe, evaluate, train
from netsmith.train.recipe import fit_lr

VALIDATION = 3000
JUDGED_BATCHES, BATCH, WIDTH = 3, 64, 0.5
# That 8 bits take so many times as much is aimed at: the bars and a bit.
LATENCY, ENERGY, SIZE = 1.45, 1.95, 1.55
ACCELERATORS: dict[str, Accelerator] = {
    "BISMO edge": BISMO_EDGE,
    "BISMO cloud": BISMO_CLOUD,
    "BitFusion": BITFUSION,
}
WAYS = ("programme", "agent", "uniform")

Cost = Callable[[ConvShape, LayerBits], float]


class Effort(NamedTuple):
    """How long networks are trained, tuned and searched for."""

    images: int
    epochs: int
    tuned: int
    episodes: int


class Images:
    """Fashion-MNIST in three parts; ``tuning`` is an epoch of so many images, others each time."""

    def __init__(self, data: Path, effort: Effort) -> None:
        part, validation, test = fashion(data / "fashion_mnist", effort.images, VALIDATION)
        mean, std = channel_statistics(part)
        loader = partial(Loader, mean=mean, std=std)
        self.train = loader(part, BATCH, seed=1, drop_last=True)
        self.tuning = loader(part, BATCH, seed=2, drop_last=True, limit=effort.tuned)
        self.validation = loader(validation, 256, shuffle=False)
        self.glance = loader(validation, 256, shuffle=False, limit=256)  # which decides nothing
        self.test = loader(test, 256, shuffle=False)
        self.calibration = [next(self.train.epoch(10**6))[0]]


class Job:
    """A trained network whose bits are chosen: by validation images, at no fine-tuning."""

    def __init__(self, module: nn.Module, images: Images, seed: int, *, codebooks: bool) -> None:
        self.module, self.images, self.seed, self.codebooks = module, images, seed, codebooks
        self.shapes = layer_shapes(module, images.calibration[0][:1])
        self.switched = Switched(
            module, list(self.shapes), images.calibration, codebooks=codebooks, seed=seed
        )
        self.judged = list(islice(images.validation.epoch(0), JUDGED_BATCHES))

    def named(self, policy: Policy) -> dict[str, LayerBits]:
        return dict(zip(self.shapes, policy, strict=True))

    def logits(self, policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
        network = self.switched.at(self.named(policy))
        with torch.no_grad():
            given = torch.cat([network(x) for x, _ in self.judged])
        return given, torch.cat([y for _, y in self.judged])

    def accuracy(self, policy: Policy) -> float:
        logits, labels = self.logits(policy)
        return float((logits.argmax(1) == labels).float().mean())

    def likelihood(self, policy: Policy) -> float:
        return -float(F.cross_entropy(*self.logits(policy)))

    def tuned(self, policy: Policy) -> Record:
        """Return test accuracy, 0..1, and bytes of the packed file after fine-tuning, and the bits."""
        network = fake_quantized(
            self.module, self.named(policy), self.images.calibration, codebooks=self.codebooks, seed=self.seed
        )
        recipe = Recipe(1, BATCH, lr=fit_lr(BATCH) / 5, warmup_epochs=0.05, grad_clip=1.0)
        train(network, self.images.tuning, self.images.glance, recipe, seed=self.seed)
        return {
            "accuracy": evaluate(network, self.images.test).accuracy,
            "bytes": len(packed(network)),
            "bits": [list(bits) for bits in policy],
        }


class Limits:
    """Several costs that add up over layers, and how many times as much 8 bits everywhere take of each."""

    def __init__(
        self, shapes: Sequence[ConvShape], aims: Sequence[tuple[Cost, float]], **options: Any
    ) -> None:
        self.shapes, self.options = list(shapes), options
        self.costs, self.aims = zip(*aims, strict=True)
        self.eight = [self.total(cost, (LayerBits(8, 8),) * len(shapes)) for cost in self.costs]

    def total(self, cost: Cost, policy: Policy) -> float:
        return sum(cost(shape, bits) for shape, bits in zip(self.shapes, policy, strict=True))

    def gains(self, policy: Policy) -> list[float]:
        return [eight / self.total(cost, policy) for eight, cost in zip(self.eight, self.costs, strict=True)]

    def kept(self, policy: Policy) -> bool:
        return all(gain >= aim for gain, aim in zip(self.gains(policy), self.aims, strict=True))

    def at(self, share: float) -> Precision:
        """Return the choice under one limit: the mean of the costs, each as a part of what it may be."""
        scales = [aim / eight / len(self.aims) for aim, eight in zip(self.aims, self.eight, strict=True)]

        def mean(layer: int, bits: LayerBits) -> float:
            return sum(s * cost(self.shapes[layer], bits) for s, cost in zip(scales, self.costs, strict=True))

        return Precision(self.shapes, mean, share, **self.options)

    def first(self, find: Callable[[Precision], Policy]) -> tuple[Policy, Precision]:
        """Return what is found, and under which limit, once it is so low that each cost's own is kept."""
        for step in range(50):
            asked = self.at(1 - step / 50)
            policy = find(asked)
            if self.kept(policy):
                return policy, asked
        raise BudgetError("no bits keep each of the limits")


def chosen(job: Job, limits: Limits, loss: Loss, episodes: int) -> dict[str, Policy]:
    """Return the policies of the programme, of the agent, and of the same bits everywhere."""
    programme, asked = limits.first(partial(least_loss, loss=loss))

    def score(policy: Policy) -> float:
        return job.accuracy(policy) if limits.kept(policy) else 0.0

    found = search_precision(asked, score, seed=job.seed, episodes=episodes, warmup=episodes // 4, decay=0.95)
    return {"programme": programme, "agent": found.policy, "uniform": limits.first(uniform)[0]}


def on_accelerator(name: str, shapes: Sequence[ConvShape]) -> Limits:
    """Both limits, or latency's alone where no bits at all would keep that of energy."""
    device = ACCELERATORS[name]
    latency = (lambda shape, bits: device.latency_ms(shape, *bits), LATENCY)
    energy = (lambda shape, bits: device.energy_mj(shape, *bits), ENERGY)
    both = Limits(shapes, [latency, energy])
    return both if both.kept(both.at(1).extreme(0)) else Limits(shapes, [latency])


def compared(images: Images, effort: Effort, seed: int, records: Records) -> Record:
    """Return what each policy gains and reaches, by accelerators and for size; every piece is found once."""
    base = trained(partial(mobilenet, 1, 10, WIDTH), images, effort, seed)
    record: Record = {"float": evaluate(base, images.test).accuracy}
    job = Job(base, images, seed, codebooks=False)
    tuned = partial(_once, records, job, f"seed {seed}")
    shapes = list(job.shapes.values())
    loss = losses_alone(Precision(shapes, lambda layer, bits: 1.0, len(shapes)), job.likelihood)
    record["8 bits"] = tuned((LayerBits(8, 8),) * len(shapes))
    for name, device in ACCELERATORS.items():
        limits = on_accelerator(name, shapes)
        for way, policy in chosen(job, limits, loss, effort.episodes).items():
            eight = (LayerBits(8, 8),) * len(shapes)
            latency, energy = (
                sum(cost(s, *b) for s, b in zip(shapes, eight, strict=True))
                / sum(cost(s, *b) for s, b in zip(shapes, policy, strict=True))
                for cost in (device.latency_ms, device.energy_mj)
            )
            record[f"{name}, {way}"] = {"latency": latency, "energy": energy, **tuned(policy)}
    return record | by_size(base, images, effort, seed, f"seed {seed}", records)


def larger(images: Images, effort: Effort, seed: int, records: Records) -> Record:
    """Return what is reached for size by a network whose weights are nearly all of its file."""
    base = trained(partial(vgg, 1, 10), images, effort, seed)
    return by_size(base, images, effort, seed, f"VGG, seed {seed}", records)


def by_size(
    base: nn.Module, images: Images, effort: Effort, seed: int, name: str, records: Records
) -> Record:
    """Return accuracy and bytes of files: of linear weights of 8 bits, and of codebooks by each way."""
    module = folded(base)
    linear = Job(module, images, seed, codebooks=False)
    shapes = list(linear.shapes.values())
    eight = (LayerBits(8, 8),) * len(shapes)
    record: Record = {"size, 8 bits": _once(records, linear, f"{name}, folded", eight)}
    whole = record["size, 8 bits"]["bytes"]
    fixed = whole - sum(shape.weights for shape in shapes)
    job = Job(module, images, seed, codebooks=True)
    tuned = partial(_once, records, job, f"{name}, codebooks")

    def held(shape: ConvShape, bits: LayerBits) -> float:
        return packed_bytes(shape.weights, bits.weights) + 4 * min(2**bits.weights, shape.weights)

    taken = sum(held(shape, bits) for shape, bits in zip(shapes, eight, strict=True))
    limits = Limits(shapes, [(held, taken / (whole / SIZE - fixed))], input_bits=(8,))
    loss = losses_alone(limits.at(1), job.likelihood)
    for way, policy in chosen(job, limits, loss, effort.episodes).items():
        record[f"size, {way}"] = tuned(policy)
    return record


def _once(records: Records, job: Job, name: str, policy: Policy) -> Record:
    """Fine-tune and test a policy, unless that was done; the same bits are the same piece, whoever asks."""
    bits = " ".join(f"{w}/{a}" for w, a in policy)
    return records.once(f"{name}: {bits}", lambda: job.tuned(policy))


def trained(make: Callable[[], nn.Module], images: Images, effort: Effort, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = make()
    recipe = Recipe(effort.epochs, BATCH, lr=fit_lr(BATCH), warmup_epochs=0.5)
    train(network, images.train, images.validation, recipe, seed=seed)
    return network.cpu().eval()


def folded(module: nn.Module) -> nn.Module:
    """Return the network with its batch norms in the convolutions before them."""
    layers: list[nn.Module] = []
    for layer in module.children():
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers.pop()
            assert isinstance(convolution, nn.Conv2d)
            layer = fuse_conv_bn_eval(convolution, layer)
        layers.append(layer)
    return nn.Sequential(*layers).eval()


def figures_of(runs: Sequence[Record]) -> Iterator[Figure]:
    yield Figure("float32: test accuracy, mean", 100 * statistics.mean(r["float"] for r in runs), "%")
    yield from _accuracy(runs, "8 bits everywhere, fine-tuned", "8 bits")
    for name, way in product(ACCELERATORS, WAYS):
        title, strict = f"{name}, {way}", way != "uniform"
        for what, bar in (("latency", ">= 1.4"), ("energy", ">= 1.9")):
            gain = _mean(runs, title, what)
            yield Figure(f"{title}: {what} of 8 bits over its own", gain, "x", bar if strict else None)
        yield from _accuracy(runs, title, title, "8 bits" if strict else None)


def size_figures(title: str, runs: Sequence[Record]) -> Iterator[Figure]:
    whole, linear = "size, 8 bits", f"{title}: linear weights of 8 bits"
    yield Figure(f"{linear}, packed file", _mean(runs, whole, "bytes") / 1000, "kB")
    yield from _accuracy(runs, f"{linear}, fine-tuned", whole)
    for way in WAYS:
        key, strict = f"size, {way}", way != "uniform"
        gain = _mean(runs, whole, "bytes") / _mean(runs, key, "bytes")
        bar = ">= 1.5" if strict else None
        yield Figure(f"{title}, {way}: file of 8 bits over its own", gain, "x", bar)
        yield from _accuracy(runs, f"{title}, {way}", key, whole if strict else None)


def _accuracy(runs: Sequence[Record], title: str, name: str, bar: str | None = None) -> Iterator[Figure]:
    yield Figure(f"{title}: test accuracy, mean", 100 * _mean(runs, name, "accuracy"), "%")
    if bar is not None:
        spread = statistics.stdev(run[bar]["accuracy"] for run in runs) if len(runs) > 1 else 0.0
        over = _mean(runs, name, "accuracy") - _mean(runs, bar, "accuracy") + spread
        title = f"{title}: accuracy over 8 bits', plus its standard deviation"
        yield Figure(title, 100 * over, "points", ">= 0")


def _mean(runs: Sequence[Record], name: str, what: str) -> float:
    return statistics.mean(float(run[name][what]) for run in runs)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/haq.json"))
    arguments.add_argument("--images", type=int, default=10000)
    arguments.add_argument("--epochs", type=int, default=5, help="of the network's training")
    arguments.add_argument("--tuned", type=int, default=5000, help="images of each fine-tuning")
    arguments.add_argument("--episodes", type=int, default=48, help="of the agent")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not (options.data / "fashion_mnist").exists():
        print(f"skipped: {options.data} holds no fashion_mnist")
        return
    keep_memory()
    effort = Effort(options.images, options.epochs, options.tuned, options.episodes)
    records, images = Records(options.records), Images(options.data, effort)
    runs = [
        records.once(f"seed {seed}", partial(compared, images, effort, seed, records))
        for seed in range(options.seeds)
    ]
    vggs = [
        records.once(f"VGG, seed {seed}", partial(larger, images, effort, seed, records))
        for seed in range(options.seeds)
    ]
    figures = [*figures_of(runs), *size_figures("size", runs), *size_figures("size of a VGG", vggs)]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
