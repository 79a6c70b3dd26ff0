"""What a space can reach on a device, and the width at which the budget is worth using."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.devices.bench import Bench
from netsmith.devices.device import WEIGHT_BYTES, Precision
from netsmith.errors import BudgetError
from netsmith.nn.count import Counts, count_block, count_plan, macs_of
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.space import BlockSpace

WIDTHS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)
# What the shallow arch of the chosen width takes of the budget: the rest is the search's, to spend on depth,
# kernels and expansions. A layer of few channels costs a runtime about as much as one of many, and at equal
# latency wide and shallow networks were no worse after a short training (docs/results.md).
SHALLOW_SHARE = 0.75

Measured = Callable[[Plan], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Reach:
    """The figures of the cheapest and the dearest arch of a space at one width."""

    width: float
    space: str
    least: Mapping[str, float]
    most: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready values."""
        return asdict(self)

    def describe(self, limits: Mapping[str, float]) -> str:
        """Say in a line what the space reaches for each limit."""
        parts = [f"{name} {self.least[name]:.4g} to {self.most[name]:.4g} (limit {limit:.4g})"
                 for name, limit in limits.items() if name in self.least]  # fmt: skip
        return f"space {self.space} at width {self.width:g} reaches " + "; ".join(parts)


def fit_width(
    space_of: Callable[[float], BlockSpace],
    budget: Budget,
    aims: Mapping[str, float],
    bench: Bench,
    widths: Sequence[float] = WIDTHS,
    *,
    overhead_ms: float = 0.0,
    share: float = SHALLOW_SHARE,
) -> Reach:
    """Choose the width at which a shallow arch takes ``share`` of an aim; say what the space reaches.

    The aims are the limits, and what else a network should not exceed. ``widths`` are tried from the
    narrowest up, by measuring the shallow arch of each on the device. ``overhead_ms`` is what every image
    takes beside its arch, such as the choice of a path. Raises :class:`BudgetError`, naming the least, where
    the cheapest arch of the narrowest space is over ``budget``.
    """

    def measured(plan: Plan) -> dict[str, float]:
        found = figures(plan, bench)
        return found | {"latency_ms": found["latency_ms"] + overhead_ms}

    _check_reachable(space_of(widths[0]), budget, bench, measured)
    chosen = widths[0] if len(widths) == 1 else _closest(space_of, aims, measured, widths, share)
    space = space_of(chosen)
    least, most = (measured(space.plan(arch)) for arch in extremes(space))
    return Reach(chosen, space.id, least, most)


def figures(plan: Plan, bench: Bench) -> dict[str, float]:
    """Return the latency, measured roughly, and the counts of a plan with untrained weights."""
    timed = bench.time({"it": (Network(plan).eval(), plan.input_shape, "float32")}, width=0.03, limit_s=1.0)
    counts = count_plan(plan)
    return {
        "latency_ms": timed["it"].median_ms,
        "macs": float(counts.macs),
        "params": float(counts.params),
        "size_bytes": float(counts.params * WEIGHT_BYTES[bench.device.precision]),
    }


def activation_bytes(counts: Counts, precision: Precision) -> int:
    """Return the most that the activations of a network or block take at once in ``precision``."""
    return counts.peak_activation_bytes * WEIGHT_BYTES[precision] // WEIGHT_BYTES["float32"]


def within_activations(space: ChainSpace, limit: float, precision: Precision) -> ChainSpace:
    """Return the space without the options that need more memory for activations than ``limit`` bytes.

    One tensor passes between the blocks of a chain, so that a network needs what its neediest block needs.
    Raises :class:`BudgetError`, naming the least, where a block that every network has needs more.
    """

    def need(block: Block) -> int:
        return activation_bytes(count_block(block), precision)

    edges = tuple(tuple(block for block in options if need(block) <= limit) for options in space.edges)
    least = max(*map(need, (*space.stem, *space.head)), *(min(map(need, options)) for options in space.edges))
    if least > limit:
        raise BudgetError(
            f"no arch of space '{space.name}' for {space.input_shape} images has activations of at most "
            f"{limit:.6g} bytes in {precision}: some block needs {least}. Ask for at least that, or for "
            "smaller images (image_size), narrower or fewer stages, or a device of precision=int8"
        )
    return replace(space, edges=edges)


def extremes(space: BlockSpace) -> tuple[Arch, Arch]:
    """Return the arch of fewest and of most multiply-adds."""
    macs = [{i: macs_of(block) for i, block in each.items()} for each in space.alternatives]
    cheapest = tuple(min(row, key=row.__getitem__) for row in macs)
    dearest = tuple(max(row, key=row.__getitem__) for row in macs)
    return space.arch(cheapest), space.arch(dearest)


def cheap_archs(space: BlockSpace) -> list[Arch]:
    """Return archs of which one should be the least on any device: that of fewest multiply-adds first.

    The others take one option wherever nothing can be skipped, as a device may be fastest in any of them.
    """
    fewest, _ = extremes(space)
    others = [
        space.arch(
            tuple(
                choice if each[choice].op == "skip" else list(each)[min(place, len(each) - 1)]
                for choice, each in zip(fewest.choices, space.alternatives, strict=True)
            )
        )
        for place in range(max(map(len, space.alternatives)))
    ]
    return list(dict.fromkeys([fewest, *others]))


def shallow(space: BlockSpace) -> Arch:
    """Return the arch that skips every block it can, with the middling option where it cannot."""
    skips = [next((i for i, b in each.items() if b.op == "skip"), None) for each in space.alternatives]
    return space.arch(
        tuple(
            list(each)[(len(each) - 1) // 2] if skip is None else skip
            for skip, each in zip(skips, space.alternatives, strict=True)
        )
    )


def _closest(
    space_of: Callable[[float], BlockSpace],
    aims: Mapping[str, float],
    measured: Measured,
    widths: Sequence[float],
    share: float,
) -> float:
    """The width whose shallow arch is closest to its share of the aims, in ratio."""
    if not any(name in aims for name in ("latency_ms", "macs", "params", "size_bytes")):
        return min(widths, key=lambda width: abs(width - 1.0))
    best, best_distance = widths[0], math.inf
    for width in widths:
        space = space_of(width)
        found = measured(space.plan(shallow(space)))
        use = max(found[name] / limit for name, limit in aims.items() if name in found)
        distance = abs(math.log(use / share))
        if distance < best_distance:
            best, best_distance = width, distance
        if use > share:
            break
    return best


def _check_reachable(space: BlockSpace, budget: Budget, bench: Bench, measured: Measured) -> None:
    least: dict[str, float] = {}
    for arch in cheap_archs(space):
        found = measured(space.plan(arch))
        least = {name: min(value, least.get(name, value)) for name, value in found.items()}
        if not budget.broken(found):
            return
    broken = budget.broken(least)
    if broken:
        raise BudgetError(
            f"no arch of space '{space.name}' for {space.input_shape} images keeps this budget on "
            f"{bench.device.name}: even the least has {broken}. Ask for at least "
            + ", ".join(f"{n} {least[n] * 1.05:.3g}" for n in budget.limits() if n in least)
            + ", or for smaller images (image_size) or fewer stages"
        )
