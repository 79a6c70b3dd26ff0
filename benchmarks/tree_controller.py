"""The tree-LSTM controller beside random trees and evolution, on planted optima, at equal evaluations.

In each seed one tree is planted. The error of another is the share of its places that are not as planted, a
place nearer to the root weighing more, for what stands below it has no place where it differs. No network is
trained: the task tells how well a searcher finds a tree, and nothing else. Beside them the controller whose
policy never learns tells what its training is good for.

    OMP_NUM_THREADS=1 python benchmarks/tree_controller.py --json tree_controller.json
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from random import Random

from harness import Figure, Record, Records, parser, publish

from netsmith.arch import Arch
from netsmith.search.evolution import Evolution
from netsmith.search.random import RandomSearch
from netsmith.search.searcher import Searcher
from netsmith.search.tree import TreeController
from netsmith.spaces.tree import Node, TreeSpace
from netsmith.trial import Trial

SPACE = TreeSpace("planted")
PLACES = 0.6  # the weight of a place over that of one above it


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--evaluations", type=int, default=500)
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/tree_controller.json"))
    options = arguments.parse_args()
    records = Records(options.records)
    runs = [
        records.once(f"seed {seed}, {options.evaluations}", partial(compared, seed, options.evaluations))
        for seed in range(options.seeds)
    ]
    figures = []
    for name in ("controller", "untrained", "random", "evolution"):
        best = [run[name]["best"] for run in runs]
        figures.append(Figure(f"best error of {name}, mean", statistics.mean(best)))
        last = statistics.mean(run[name]["last"] for run in runs)
        figures.append(Figure(f"mean error of the last tenth asked for by {name}", last))
    for other in ("random", "evolution", "untrained"):
        bar = ">= 0" if other != "untrained" else None
        gains = [run[other]["best"] - run["controller"]["best"] for run in runs]
        figures.append(
            Figure(f"best error of {other} less the controller's, mean", statistics.mean(gains), bar=bar)
        )
        ahead = sum(gain > 0 for gain in gains)
        figures.append(Figure(f"seeds of {len(runs)} in which the controller is ahead of {other}", ahead))
    publish(figures, options.json)


def compared(seed: int, evaluations: int) -> Record:
    target = SPACE.tree(SPACE.sample(Random(f"planted {seed}")))
    searchers: dict[str, Searcher] = {
        "controller": TreeController(SPACE, SPACE.sample, seed),
        "untrained": TreeController(SPACE, SPACE.sample, seed, rate=0.0),
        "random": RandomSearch(SPACE.sample, seed),
        "evolution": Evolution(SPACE, SPACE.sample, seed),
    }
    found: Record = {}
    for name, searcher in searchers.items():
        errors = []
        for _ in range(evaluations):
            arch = searcher.ask()
            errors.append(error(target, arch))
            searcher.tell(Trial(arch, {"error": errors[-1]}))
        found[name] = {"best": min(errors), "last": statistics.mean(errors[-evaluations // 10 :])}
    return found


def error(target: Node | None, arch: Arch) -> float:
    whole, right = alike(target, SPACE.tree(arch))
    return 1 - right / whole


def alike(one: Node | None, other: Node | None, weight: float = 1.0) -> tuple[float, float]:
    """The weight of all places of ``one``, and of those that ``other`` has as well."""
    same = (one is None) == (other is None)
    if one is None:
        return weight, weight * same
    if other is not None:
        same = (one.merge, len(one.branches)) == (other.merge, len(other.branches))
    whole, right = weight, weight * same
    for number, branch in enumerate(one.branches):
        mine = other.branches[number] if other is not None and same else None
        below = PLACES * weight
        edge = below * (mine is not None and mine.edge == branch.edge)
        more, of_it = alike(branch.node, mine.node if mine is not None else None, below)
        whole, right = whole + below + more, right + edge + (of_it if mine is not None else 0.0)
    return whole, right


if __name__ == "__main__":
    main()
