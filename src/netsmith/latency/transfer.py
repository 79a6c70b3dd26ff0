"""A latency model of a new device from that of a known one and a few measurements.

Devices mostly agree about what is dear, but for whole kinds of blocks: a 7x7 depthwise convolution costs
one runtime 1.2 times a 3x3 one, and another 11 times. (HELP, Lee et al. 2021, and LitePred, Feng et al. 2024,
adapt learned predictors from as few networks.) So a network's latency on the new device is fitted as

    constant + sum over blocks of (scale + kind_k(b) + own_b) * alone_b

in which ``alone_b`` is the block's latency alone on the known device and each of the departures is drawn
towards 0 by a normal prior. It stays a sum over blocks, so that a differentiable search can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from netsmith.arch import Arch
from netsmith.errors import TableError
from netsmith.latency.cache import TableCache, TableStore
from netsmith.latency.correction import Correction
from netsmith.latency.fit import block_sums, measured_ms
from netsmith.latency.heldout import HeldOut
from netsmith.latency.measuring import Measuring, OnProgress, Timer, without_moved
from netsmith.latency.model import LatencyModel
from netsmith.latency.networks import choose_networks
from netsmith.latency.profile import HELDOUT_NETWORKS
from netsmith.latency.regression import Array
from netsmith.latency.table import LatencyTable, describe_fingerprint, network_key
from netsmith.plan import Block, Plan
from netsmith.spaces.chain import ChainSpace

NETWORKS = 10
# Standard deviations of the priors, relative to the common scale, and of a measurement.
_CONSTANT, _SCALE, _KIND, _OWN, _NOISE = 1.0, 1.0, 3.0, 0.3, 0.015


@dataclass(frozen=True)
class Transferred:
    """The model of the new device, and how far the known one ranks networks as it does (Spearman)."""

    model: LatencyModel
    agreement: float

    def describe(self) -> str:
        """Say in a line how alike the devices are."""
        return f"the known device ranks the measured networks alike: rank correlation {self.agreement:.3f}"


def transfer(
    space: ChainSpace,
    timer: Timer,
    known: LatencyModel,
    *,
    networks: int = NETWORKS,
    heldout_networks: int = HELDOUT_NETWORKS,
    store: TableStore | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total, note: None,
) -> Transferred:
    """Measure ``networks`` archs of ``space``, and as many held out as asked, and fit the model to them.

    ``known`` is the model of another device, which has the blocks of the space. ``store`` is the user's cache
    where not given; what it has is not measured again. Raises :class:`TableError` where the known table is of
    another space, or there are fewer than three networks to fit.
    """
    known.costs(space)  # says what the table lacks
    store = TableCache() if store is None else store
    fitted, heldout = _choose(space, networks, heldout_networks, seed)
    if len(fitted) < 3:
        raise TableError(f"a transfer is fitted to three networks at the least; got {len(fitted)}")
    order = Random(seed).sample([*fitted, *heldout], len(fitted) + len(heldout))
    plans = {network_key(plan.blocks): plan for plan in map(space.plan, order)}
    kept_as = kept_under(timer)
    table = store.load(kept_as) or LatencyTable(kept_as, timer.reference_ms)
    table = without_moved(table.scaled_to(timer.reference_ms), (), plans, timer)
    missing = [plan for key, plan in plans.items() if key not in table.networks]
    table = Measuring(timer, store, on_progress, len(missing)).networks(table, missing)

    first, others = [space.plan(arch) for arch in fitted], [space.plan(arch) for arch in heldout]
    alone, _ = block_sums(known.table, first)
    kinds = {key: _kind(row.blocks[0]) for key, row in known.table.rows.items()}
    correction = fit_transfer(alone, measured_ms(table, first), list(known.table.rows), kinds)
    name = {**timer.fingerprint(), "blocks of": describe_fingerprint(known.table.fingerprint)}
    model = LatencyModel(replace(known.table, fingerprint=name), correction, HeldOut((), ()))
    model = replace(model, heldout=_compared(model, others, table))
    ranks = _compared(known, [*first, *others], table)
    return Transferred(model, ranks.spearman)


def _compared(model: LatencyModel, plans: Sequence[Plan], table: LatencyTable) -> HeldOut:
    """What ``model`` predicts of networks, and what ``table`` measured of them."""
    return HeldOut(tuple(map(model.predict, plans)), tuple(measured_ms(table, plans).tolist()))


def kept_under(timer: Timer) -> dict[str, str]:
    """Return what the networks of transfers are kept under, apart from the device's own table.

    There, networks measured anew would vouch for blocks that were measured on another day.
    """
    return {**timer.fingerprint(), "for": "transfer"}


def fit_transfer(
    alone_ms: Array, measured_ms: Array, keys: Sequence[str], kinds: dict[str, str]
) -> Correction:
    """Fit the new device's networks by the known device's blocks.

    ``alone_ms`` is (networks, blocks), as :func:`netsmith.latency.fit.fit` takes it, of the blocks ``keys``;
    ``kinds`` names the kind of every block of the table, also of blocks that no network has.
    """
    total, usual_ms = alone_ms.sum(1), float(measured_ms.mean())
    scale = float(np.median(measured_ms / total))
    names = sorted({kinds[key] for key in keys})
    sums = np.stack([alone_ms[:, [kinds[key] == name for key in keys]].sum(1) for name in names], 1)
    columns = np.concatenate(
        [
            np.full((len(total), 1), _CONSTANT * usual_ms),
            _SCALE * scale * total[:, None],
            _KIND * scale * sums,
            _OWN * scale * alone_ms,
        ],
        1,
    )
    # Ridge regression in its dual form: as many unknowns as networks.
    kernel = columns @ columns.T + np.diag((_NOISE * measured_ms) ** 2)
    found = columns.T @ np.linalg.solve(kernel, measured_ms - scale * total)
    constant, common, rest = found[0], found[1], found[2:]
    of_kind = dict(zip(names, _KIND * rest[: len(names)], strict=True))
    of_block = dict(zip(keys, _OWN * rest[len(names) :], strict=True))
    own = {key: scale * float(of_kind.get(kind, 0.0) + of_block.get(key, 0.0)) for key, kind in kinds.items()}
    return Correction(float(_CONSTANT * usual_ms * constant), float(scale * (1 + _SCALE * common)), 0.0, own)


def _kind(block: Block) -> str:
    """What runtimes differ about: the operation and its kernel."""
    return f"{block.op} k{block.kernel}"


def _choose(space: ChainSpace, fitted: int, heldout: int, seed: int) -> tuple[list[Arch], list[Arch]]:
    """Archs of one option throughout, which tell kinds of blocks apart, then others; and some to hold out."""
    others, held = choose_networks(space, fitted, heldout, seed)
    taken = {network_key(space.plan(arch).blocks) for arch in held}
    uniform = [
        space.arch(tuple(min(option, len(options) - 1) for options in space.edges))
        for option in range(max(map(len, space.edges)))
    ]
    chosen: list[Arch] = []
    for arch in [*uniform, *others]:
        name = network_key(space.plan(arch).blocks)
        if name not in taken:
            taken.add(name)
            chosen.append(arch)
    return chosen[:fitted], held
