"""ProxylessNAS on NAS-Bench-Macro: how a supernet ranks archs whose trained accuracy is published.

A supernet of the space's 6,561 chains, trained on a part of CIFAR-10's JPEGs: first its weights alone, then
with path probabilities that aim at the published multiply-adds of the median arch. After the first half archs
drawn from the whole space are judged with its weights, and their order compared with the published; after the
second the arch that the probabilities derive is looked up, beside archs drawn within the same limit. What was
finished is in the records file, a training that was killed goes on from its last epoch.

    python benchmarks/macro_supernet.py --data ../shared/data --json macro_supernet.json
"""

from __future__ import annotations

import shutil
import statistics
from functools import partial
from pathlib import Path
from random import Random

from harness import Figure, Record, Records, cifar, parser, publish
from scipy.stats import kendalltau

from netsmith.arch import Arch
from netsmith.data import Loader, channel_statistics, choose_policy
from netsmith.nn.count import count_block
from netsmith.nn.runtime import keep_memory
from netsmith.published.nas_bench_macro import macro, read_nas_bench_macro
from netsmith.published.table import PublishedTable
from netsmith.search.additive import AdditiveCost
from netsmith.supernet.derive import OpenPaths, derive
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.search import ProxylessSearch
from netsmith.train import evaluate, recalibrate

BATCH, VALIDATION, JUDGED_ON = 128, 4000, 2000
DERIVED, CALIBRATION_BATCHES = 12, 8


class Macro:
    """The space with its published table, and the images that a supernet of it learns from."""

    def __init__(self, data: Path, images: int, passes: float) -> None:
        self.space = macro()
        self.table: PublishedTable = read_nas_bench_macro(
            data / "nas_bench_macro" / "nas-bench-macro_cifar10.json"
        )
        fixed = sum(count_block(block).macs for block in (*self.space.stem, *self.space.head)) / 1e6
        edges = [[count_block(block).macs / 1e6 for block in options] for options in self.space.edges]
        self.costs, self.macs = PathCosts.of(fixed, edges), AdditiveCost(fixed, edges)
        every = [self.space.arch(choices) for choices in self.table.rows]
        self.limit = statistics.median(self.macs.of(arch.choices) for arch in every)
        self.within = [arch for arch in every if self.macs.of(arch.choices) <= self.limit]
        train, validation = cifar(data / "cifar10_jpg" / "cifar10_train_jpg.npz", images, VALIDATION)
        mean, std = channel_statistics(train)
        policy = choose_policy(train.input_shape, passes, flip=True)
        loader = partial(Loader, mean=mean, std=std)
        self.train = loader(train, BATCH, policy=policy, seed=1, drop_last=True)
        self.validation = loader(validation, BATCH, policy=policy, seed=2, drop_last=True)
        self.calibration = loader(train, 256, seed=3)
        self.judged_on = loader(validation, 256, shuffle=False, limit=JUDGED_ON)

    def accuracy(self, arch: Arch) -> float:
        """The published mean test accuracy of three trainings, 0..1."""
        return 1 - self.table.rows[arch.choices]["error"]

    def rank(self, arch: Arch) -> int:
        """The place of an arch, from 1, among all within the limit by their published accuracy."""
        mine = self.accuracy(arch)
        return 1 + sum(self.accuracy(other) > mine for other in self.within)

    def judge(self, search: ProxylessSearch, arch: Arch) -> float:
        """The validation accuracy of an arch with the supernet's weights."""
        network = search.extract(arch)
        recalibrate(network, self.calibration, CALIBRATION_BATCHES)
        return evaluate(network, self.judged_on).accuracy


def searched(job: Macro, recipe: SearchRecipe, seed: int, checkpoint: Path) -> ProxylessSearch:
    search = ProxylessSearch(job.space, [(job.costs, job.limit)], recipe, seed)
    search.run(job.train, job.validation, checkpoint_path=checkpoint)
    return search


def ranked(job: Macro, recipe: SearchRecipe, seed: int, checkpoint: Path, number: int) -> Record:
    """Archs drawn from the whole space, judged by a supernet whose weights alone were trained."""
    search, rng = searched(job, recipe, seed, checkpoint), Random(seed)
    drawn = list(dict.fromkeys(job.space.sample(rng) for _ in range(number)))
    return {"judged": [[list(arch.choices), job.judge(search, arch)] for arch in drawn]}


def derived(job: Macro, recipe: SearchRecipe, seed: int, weights: Path, checkpoint: Path) -> Record:
    """The most probable arch within the limit, and of several derived the best on validation.

    Beside them the best on validation of as many that were drawn among the open paths within the limit. The
    search goes on from ``weights``, the checkpoint of the supernet that was ranked.
    """
    if not checkpoint.exists():
        started = checkpoint.with_suffix(".new")
        shutil.copy(weights, started)
        started.replace(checkpoint)
    search = searched(job, recipe, seed, checkpoint)
    paths = search.aims[0].paths
    archs = derive(paths, job.macs, job.limit, DERIVED, seed)
    rng, still_open = Random(seed), OpenPaths(paths, job.macs)
    others = [still_open.draw(rng, job.limit, 0.95 * job.limit) for _ in archs]
    return {
        "most probable": list(archs[0].choices),
        "best on validation": list(max(archs, key=partial(job.judge, search)).choices),
        "drawn": [list(arch.choices) for arch in others],
        "best drawn": list(max(others, key=partial(job.judge, search)).choices),
        "open paths": int(paths.open.sum()),
    }


def figures_of(job: Macro, ranks: list[Record], answers: list[Record]) -> list[Figure]:
    taus, upper = [], []
    for record in ranks:
        pairs = [(told, job.accuracy(job.space.arch(tuple(choices)))) for choices, told in record["judged"]]
        taus.append(float(kendalltau(*zip(*pairs, strict=True)).statistic))
        better = sorted(pairs, key=lambda pair: -pair[1])[: len(pairs) // 2]
        upper.append(float(kendalltau(*zip(*better, strict=True)).statistic))
    figures = [
        Figure("supernet against published, Kendall tau", statistics.mean(taus)),
        Figure("the same, among the better half", statistics.mean(upper)),
        Figure("archs judged, a seed", len(ranks[0]["judged"])),
        Figure("limit, the median arch's multiply-adds", job.limit, "M"),
        Figure("archs within the limit", len(job.within)),
        Figure("of them the best, published accuracy", 100 * max(map(job.accuracy, job.within)), "%"),
    ]
    for seed, record in enumerate(answers):
        for name in ("most probable", "best on validation", "best drawn"):
            arch = job.space.arch(tuple(record[name]))
            figures += [
                Figure(f"{name}, seed {seed}: true rank within the limit", job.rank(arch)),
                Figure(f"{name}, seed {seed}: published accuracy", 100 * job.accuracy(arch), "%"),
            ]
        drawn = [job.rank(job.space.arch(tuple(choices))) for choices in record["drawn"]]
        figures.append(Figure(f"drawn near the limit, seed {seed}: median rank", statistics.median(drawn)))
    return figures


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--work", type=Path, default=Path("runs/macro_supernet"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/macro_supernet.json"))
    arguments.add_argument("--images", type=int, default=20000)
    arguments.add_argument("--epochs", type=int, default=8, help="of each half")
    arguments.add_argument("--judged", type=int, default=150)
    arguments.add_argument("--seeds", type=int, default=1)
    options = arguments.parse_args()
    if not (options.data / "cifar10_jpg").exists() or not (options.data / "nas_bench_macro").exists():
        print(f"skipped: {options.data} holds no cifar10_jpg and nas_bench_macro")
        return
    keep_memory()
    options.work.mkdir(parents=True, exist_ok=True)
    records, job = Records(options.records), Macro(options.data, options.images, 2 * options.epochs)
    alone = SearchRecipe(options.epochs, options.epochs, "own")
    whole = SearchRecipe(2 * options.epochs, options.epochs, "own")
    ranks, answers = [], []
    for seed in range(options.seeds):
        first, second = (options.work / f"{name}-{seed}.safetensors" for name in ("weights", "search"))
        judge = partial(ranked, job, alone, seed, first, options.judged)
        ranks.append(records.once(f"ranking, seed {seed}", judge))
        search = partial(derived, job, whole, seed, first, second)
        answers.append(records.once(f"derived, seed {seed}", search))
    publish(figures_of(job, ranks, answers), options.json)


if __name__ == "__main__":
    main()
