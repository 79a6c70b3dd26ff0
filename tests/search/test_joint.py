"""Where precisions and archs depend on each other, searching both finds what one after the other misses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from random import Random

import pytest

from netsmith.arch import Arch
from netsmith.errors import BudgetError
from netsmith.nn.count import count_block
from netsmith.pipeline.searching.joint_costs import JointCosts
from netsmith.plan import Block
from netsmith.search.joint import Effort, search_joint
from netsmith.spaces.joint import JointSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.trial import Trial

CHAIN = mbconv(
    (1, 8, 8), 4, width=0.5, stages=[Stage(16, 2, 1), Stage(24, 2, 2)], kernels=(3, 5), expansions=(2, 6)
)
SPACE = JointSpace(CHAIN)
# What part of the work of a network each precision takes, and what int8 costs in error, part by part.
SLOWER = {"int8": 0.4, "float32": 1.0}
LOSS = tuple(0.06 if i == len(SPACE.parts) - 2 else 0.002 for i in range(len(SPACE.parts)))
CHANGE_MS = 0.004


def alone_ms(block: Block, precision: str) -> float:
    return 0.0 if block.op == "skip" else 0.002 + SLOWER[precision] * count_block(block).macs / 1e7


def latency_ms(arch: Arch) -> float:
    """Blocks, and something for each change of precision, which no table tells."""
    floating, blocks = SPACE.floating(arch), SPACE.plan(arch).blocks
    runs = [i in floating for i, block in enumerate(blocks) if block.op != "skip"]
    changes = sum(a != b for a, b in pairwise(runs))
    told = (alone_ms(b, "float32" if i in floating else "int8") for i, b in enumerate(blocks))
    return 0.01 + sum(told) + CHANGE_MS * changes


def whole_error(arch: Arch) -> float:
    """Less, the more multiply-adds the edges have; a kernel of 5 pays in the first stage alone."""
    edges = CHAIN.plan(arch).blocks[len(CHAIN.stem) : -1]
    worth = sum((1 + (b.kernel == 5 and b.height == 8)) * b.hidden**0.5 for b in edges if b.op != "skip")
    return 0.4 - 0.006 * worth


def error(arch: Arch) -> float:
    lost = sum(x for x, floating in zip(LOSS, SPACE.precisions(arch), strict=True) if not floating)
    return whole_error(SPACE.whole(arch)) + lost


def measure(arch: Arch) -> Trial:
    figures = {"error": error(arch), "latency_ms": latency_ms(arch), "size_bytes": 1000.0}
    return Trial(arch, figures, "" if figures["latency_ms"] <= LIMIT else "too slow")


def every() -> list[Arch]:
    return [SPACE.arch(choices) for choices in product(*map(range, SPACE.sizes))]


LIMIT = 0.045


def costs(limits: dict[str, float]) -> JointCosts:
    tables = {
        "int8": lambda block: alone_ms(block, "int8"),
        "float32": lambda block: alone_ms(block, "float32"),
    }
    return JointCosts(SPACE, tables, 0.01, limits)  # type: ignore[arg-type]


def in_turn() -> float:
    """The error of the best arch in float32 within the limit, then of its best precisions within it."""
    floating = [1] * len(SPACE.parts)
    kept = [a for a in every() if list(SPACE.precisions(a)) == floating and latency_ms(a) <= LIMIT]
    best = SPACE.whole(min(kept, key=error))
    choices = product(*(range(2) for _ in SPACE.parts))
    files = [SPACE.arch((*best.choices, *precisions)) for precisions in choices]
    return min(error(arch) for arch in files if latency_ms(arch) <= LIMIT)


@pytest.fixture(scope="module")
def found() -> list[Trial]:
    effort = Effort(many=60, few=12, rounds=2, best=6, asked=300)
    return search_joint(SPACE, costs({"latency_ms": LIMIT}), whole_error, measure, effort, seed=0)


def test_it_beats_the_best_of_one_after_the_other(found: list[Trial]) -> None:
    kept = [trial.figures["error"] for trial in found if trial.valid]
    least = min(error(arch) for arch in every() if latency_ms(arch) <= LIMIT)
    assert in_turn() > least + 0.02, "the planted optimum is none that one after the other finds"
    assert min(kept) < in_turn() - 0.01
    assert min(kept) < least + 0.01
    assert len(found) <= 12 + 2 * 6


def test_no_two_files_of_a_round_are_of_one_network(found: list[Trial]) -> None:
    for start in (12, 18):
        wholes = [SPACE.whole(trial.arch) for trial in found[start : start + 6]]
        assert len(set(wholes)) == len(wholes)


def test_the_same_seed_measures_the_same_files(found: list[Trial]) -> None:
    effort = Effort(many=60, few=12, rounds=2, best=6, asked=300)
    again = search_joint(SPACE, costs({"latency_ms": LIMIT}), whole_error, measure, effort, seed=0)
    assert again == found


def test_measured_files_teach_what_a_change_of_precision_costs(found: list[Trial]) -> None:
    told = costs({"latency_ms": LIMIT})
    rng = Random(5)
    unseen = [SPACE.sample(rng) for _ in range(60)]

    def off() -> float:
        pairs = [(told.figures(arch)["latency_ms_predicted"], latency_ms(arch)) for arch in unseen]
        return sum(abs(predicted / true - 1) for predicted, true in pairs) / len(pairs)

    before = off()
    told.learn(found)
    assert off() < 0.4 * before
    assert told.figures(found[0].arch)["size_bytes"] > 0


def test_where_nothing_keeps_the_limits_by_measurement_what_was_measured_is_returned() -> None:
    class Narrowed(JointCosts):
        def learn(self, trials: Sequence[Trial]) -> None:
            self._limits = {"latency_ms": 1e-6}

    tables = {"int8": lambda block: 0.001, "float32": lambda block: 0.002}
    told = Narrowed(SPACE, tables, 0.01, {"latency_ms": LIMIT})  # type: ignore[arg-type]
    effort = Effort(many=6, few=4, rounds=2, best=2, asked=20)
    assert len(search_joint(SPACE, told, whole_error, measure, effort, seed=0)) == 4
    with pytest.raises(BudgetError, match="at any precision"):
        told.draw(Random(0))


def test_draws_keep_the_limits_and_use_them_up() -> None:
    told, rng = costs({"latency_ms": LIMIT, "params": 4000}), Random(0)
    shares = [told.share(told.draw(rng)) for _ in range(50)]
    assert max(shares) <= 1
    assert sorted(shares)[10] > 0.8
