"""Which whole networks of a space are measured: some to fit a model, others to check it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random

from netsmith.arch import Arch
from netsmith.latency.table import FREE_OPERATIONS, network_key
from netsmith.nn.count import macs_of
from netsmith.spaces.space import BlockSpace

_DRAWS_EACH = 50


def choose_networks(space: BlockSpace, fitted: int, heldout: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """Return archs to fit on and archs to hold out, all of them different networks.

    Held-out archs are drawn uniformly, as a user of the space would meet them. Of the others, one is the
    smallest, one the largest, half are uniform, and the rest leave out from none to all of the blocks
    that may be left out, which uniform draws hardly ever do. A space with too few archs gives a third of
    them to the check.
    """
    if space.count() <= 4 * (fitted + heldout):
        return _split_all(space, fitted, heldout, seed)
    rng = Random(seed)
    seen: set[str] = set()
    held = _distinct(space, (space.sample(rng) for _ in range(_DRAWS_EACH * heldout)), heldout, seen)
    ends = [_extreme(space, largest=False), _extreme(space, largest=True)]
    chosen = _distinct(space, iter(ends), 2, seen)
    depths = (fitted - len(chosen)) // 2
    for i in range(depths):
        share = i / max(1, depths - 1)
        draws = (_with_skips(space, share, rng) for _ in range(_DRAWS_EACH))
        chosen += _distinct(space, draws, 1, seen)
    draws = (space.sample(rng) for _ in range(_DRAWS_EACH * fitted))
    chosen += _distinct(space, draws, fitted - len(chosen), seen)
    return chosen, held


def _split_all(space: BlockSpace, fitted: int, heldout: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """Divide every arch of a small space, two thirds to the fit, as far as that many are asked for."""
    every = map(space.arch, product(*space.alternatives))
    distinct = list({network_key(space.plan(arch).blocks): arch for arch in every}.values())
    Random(seed).shuffle(distinct)
    held = min(heldout, len(distinct) // 3)
    return distinct[held : held + fitted], distinct[:held]


def _distinct(space: BlockSpace, draws: Iterator[Arch], number: int, seen: set[str]) -> list[Arch]:
    """Take the first ``number`` draws whose networks are not in ``seen``, and put them there."""
    found: list[Arch] = []
    while len(found) < number and (arch := next(draws, None)) is not None:
        key = network_key(space.plan(arch).blocks)
        if key not in seen:
            seen.add(key)
            found.append(arch)
    return found


def _extreme(space: BlockSpace, *, largest: bool) -> Arch:
    """Return the arch with the most multiply-adds, or with the fewest."""
    choose = max if largest else min
    costs = ({i: macs_of(block) for i, block in each.items()} for each in space.alternatives)
    return space.arch(tuple(choose(row, key=row.__getitem__) for row in costs))


def _with_skips(space: BlockSpace, share: float, rng: Random) -> Arch:
    """Draw an arch that leaves out ``share`` of the blocks that may be left out."""
    free = [[j for j, b in each.items() if b.op in FREE_OPERATIONS] for each in space.alternatives]
    may = [i for i, options in enumerate(free) if options and len(options) < len(space.alternatives[i])]
    out = set(rng.sample(may, round(share * len(may))))
    choices = []
    for i, each in enumerate(space.alternatives):
        others = [j for j in each if j not in free[i]]
        choices.append(rng.choice(free[i] if i in out or not others else others))
    return space.arch(tuple(choices))
