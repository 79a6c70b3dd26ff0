"""How well surrogates rank archs one layer longer than any they saw, and what progressive search makes of it.

Ranks on NAS-Bench-Macro, read as archs that grow, and on planted functions of sequences of 18 tokens; then
the search of NAS-Bench-Macro for error and parameters against random draws, at equal queries. What was
finished is in the records file.

    OMP_NUM_THREADS=1 python benchmarks/sequence_surrogates.py --data ../shared/data --json surrogates.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
from harness import Figure, Records, parser, publish
from scipy.stats import kendalltau, spearmanr

from netsmith.published.nas_bench_macro import macro, read_nas_bench_macro
from netsmith.published.table import PublishedTable
from netsmith.search.progressive import ProgressiveSearch
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.search.sequence import EnsembleSurrogate, ForestSurrogate, LstmSurrogate, SequenceSurrogate
from netsmith.trial import Trial

Tokens = tuple[int, ...]
Examples = list[tuple[Tokens, float]]
SURROGATES: dict[str, Callable[[int, int], SequenceSurrogate]] = {
    "forest": ForestSurrogate,
    "lstm": LstmSurrogate,
    "ensemble": lambda vocabulary, seed: EnsembleSurrogate(lambda s: LstmSurrogate(vocabulary, s), seed),
}
SEARCHED = ("forest", "lstm")  # an ensemble of five takes five times as long as the one
WIDTH = 24  # archs trained a level
TESTED = 200
DEPTHS = (2, 3, 4, 5, 6)
QUERIES = 200
LETTERS = 18  # as many norm-conv pairs as DPP-Net has
OBJECTIVES = ("error", "params")


def macro_examples(table: PublishedTable) -> Callable[[int, int], tuple[Examples, Examples]]:
    """Of depth and seed: archs of up to ``depth`` layers, ``WIDTH`` of a length, and archs of one more."""
    space = macro()
    lengths: dict[int, Examples] = {}
    for choices, row in table.rows.items():
        word = space.tokens(space.arch(choices))
        lengths.setdefault(len(word), []).append((word, row["error"]))

    def drawn(depth: int, seed: int) -> tuple[Examples, Examples]:
        rng = Random(seed)
        seen = [example for n in range(depth + 1) for example in _some(lengths[n], WIDTH, rng)]
        return seen, _some(lengths[depth + 1], TESTED, rng)

    return drawn


def planted_examples(depth: int, seed: int) -> tuple[Examples, Examples]:
    """The same of a function with an effect of each token and pair of neighbours, less so the deeper."""
    rng, draws = Random(seed), np.random.default_rng(seed)
    alone, paired = draws.normal(size=LETTERS + 1), 0.6 * draws.normal(size=(LETTERS + 1, LETTERS + 1))

    def example(length: int) -> tuple[Tokens, float]:
        word = tuple(rng.randint(1, LETTERS) for _ in range(length))
        gain = sum(alone[token] * 0.8**i for i, token in enumerate(word))
        gain += sum(paired[pair] * 0.8**i for i, pair in enumerate(pairwise(word)))
        return word, float(0.1 + 0.1 * 0.8**length - 0.02 * gain)

    seen = [example(n) for n in range(1, depth + 1) for _ in range(WIDTH)]
    return seen, [example(depth + 1) for _ in range(TESTED)]


def _some(examples: Examples, count: int, rng: Random) -> Examples:
    return examples if len(examples) <= count else rng.sample(examples, count)


def ranked(
    make: Callable[[int], SequenceSurrogate],
    examples: Callable[[int, int], tuple[Examples, Examples]],
    depth: int,
    seeds: Sequence[int],
) -> dict[str, list[float]]:
    """Of every seed: rank correlations with the truth, and the seconds of a fit."""
    found: dict[str, list[float]] = {"tau": [], "rho": [], "seconds": []}
    for seed in seeds:
        seen, longer = examples(depth, seed)
        surrogate = make(seed)
        start = time.process_time()
        surrogate.fit(*zip(*seen, strict=True))
        found["seconds"].append(time.process_time() - start)
        words, truth = zip(*longer, strict=True)
        guess = surrogate.predict(words)[0]
        found["tau"].append(float(kendalltau(guess, truth).statistic))
        found["rho"].append(float(spearmanr(guess, truth).statistic))
    return found


def searched(
    table: PublishedTable, make: Callable[[int], Searcher], seeds: Sequence[int]
) -> dict[str, list[float]]:
    """Of every seed: what is missing of the hyper-volume, of the front, and of the least error."""
    every = [tuple(row[name] for name in OBJECTIVES) for row in table.rows.values()]
    low, high = np.min(every, 0), np.max(every, 0)
    best = _front(every)
    whole = volume((np.array(sorted(best)) - low) / (high - low))
    found: dict[str, list[float]] = {"volume": [], "front": [], "regret": []}
    for seed in seeds:
        trials = list(_trials(table, make(seed)))
        points = {tuple(trial.figures[name] for name in OBJECTIVES) for trial in trials}
        found["volume"].append(1 - volume((np.array(sorted(points)) - low) / (high - low)) / whole)
        found["front"].append(1 - len(points & best) / len(best))
        found["regret"].append(min(point[0] for point in points) - low[0])
    return found


def _trials(table: PublishedTable, searcher: Searcher) -> Iterator[Trial]:
    for _ in range(QUERIES):
        trial = table.trial(searcher.ask())
        searcher.tell(trial)
        yield trial


def _front(points: Sequence[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Return the front of two objectives: in order of the first, each less in the second than all before."""
    best: list[tuple[float, ...]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return set(best)


def volume(points: np.ndarray) -> float:
    """Return the area of the unit square that the points (N, 2) dominate."""
    area, height = 0.0, 1.0
    for x, y in sorted(map(tuple, points)):
        if y < height:
            area += (1 - x) * (height - y)
            height = y
    return area


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument(
        "--records", type=Path, default=Path("benchmarks/records/sequence_surrogates.json")
    )
    arguments.add_argument("--seeds", type=int, default=5, help="of each rank correlation")
    arguments.add_argument("--searches", type=int, default=20, help="seeds of each search")
    options = arguments.parse_args()
    path = options.data / "nas_bench_macro/nas-bench-macro_cifar10.json"
    if not path.exists():
        print(f"skipped: {path} is not there; give the folder of nas_bench_macro")
        return
    table, records = read_nas_bench_macro(path), Records(options.records)
    publish(
        [*ranks(table, records, options.seeds), *searches(table, records, options.searches)], options.json
    )


def ranks(table: PublishedTable, records: Records, seeds: int) -> list[Figure]:
    figures = []
    sources = {
        table.name: (macro_examples(table), macro().vocabulary),
        "planted": (planted_examples, LETTERS),
    }
    for source, (examples, vocabulary) in sources.items():
        for name, make in SURROGATES.items():
            every: dict[str, list[float]] = {"tau": [], "rho": [], "seconds": []}
            for depth in DEPTHS:
                found = records.once(
                    f"ranks of {source}, {name}, trained to length {depth}, {seeds} seeds",
                    lambda m=make, v=vocabulary, e=examples, d=depth: ranked(
                        lambda seed: m(v, seed), e, d, range(seeds)
                    ),
                )
                figures.append(
                    Figure(f"{source}, {name}: tau at length {depth + 1}", statistics.mean(found["tau"]))
                )
                for key, values in every.items():
                    values += found[key]
            means = {key: statistics.mean(values) for key, values in every.items()}
            bar = ">= 0.4" if name == "lstm" else None
            figures.append(Figure(f"{source}, {name}: tau, mean", means["tau"], bar=bar))
            figures.append(Figure(f"{source}, {name}: Spearman's rho, mean", means["rho"]))
            figures.append(Figure(f"{source}, {name}: a fit, mean", means["seconds"], "s of processor"))
    return figures


def searches(table: PublishedTable, records: Records, seeds: int) -> list[Figure]:
    def progressive(make: Callable[[int, int], SequenceSurrogate]) -> Callable[[int], Searcher]:
        return lambda seed: ProgressiveSearch(
            macro(),
            seed,
            make(macro().vocabulary, seed),
            known=lambda arch: table.rows[arch.choices],
            objectives=OBJECTIVES,
            width=WIDTH,
        )

    makers: dict[str, Callable[[int], Searcher]] = {
        "random": lambda seed: RandomSearch(table.space.sample, seed),
        **{f"progressive, {name}": progressive(SURROGATES[name]) for name in SEARCHED},
    }
    figures, missing = [], {}
    for name, maker in makers.items():
        found = records.once(
            f"{QUERIES} queries of {table.name}, {name}, {seeds} seeds",
            lambda m=maker: searched(table, m, range(seeds)),
        )
        missing[name] = statistics.mean(found["volume"])
        title = f"{table.name}, {QUERIES} queries, {name}"
        figures += [
            Figure(f"{title}: hyper-volume missing, mean", 100 * missing[name], "%"),
            Figure(f"{title}: front missing, mean", 100 * statistics.mean(found["front"]), "%"),
            Figure(f"{title}: error over the least, mean", 100 * statistics.mean(found["regret"]), "points"),
        ]
    for name in SEARCHED:
        share = missing[f"progressive, {name}"] / missing["random"]
        figures.append(
            Figure(f"{table.name}: hyper-volume missing, {name} over random", share, "x", "<= 0.5")
        )
    return figures


if __name__ == "__main__":
    main()
