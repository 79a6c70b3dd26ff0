"""A latency model of a new device from that of a known one and a few measurements.

Devices mostly agree about what is dear, but for whole kinds of blocks: a 7x7 depthwise convolution costs
one runtime 1.2 times a 3x3 one, and another 11 times. (HELP, Lee et al. 2021, and LitePred, Feng et al. 2024,
adapt learned predictors from as few networks.) So a network's latency on the new device is fitted as

    constant + sum over blocks of (scale + kind_k(b) + own_b) * alone_b + sum over kinds of work_k * macs_k

in which ``alone_b`` is the block's latency alone on the known device, ``macs_k`` are the network's depthwise
multiply-adds of each kernel, and its others, and each of the departures is drawn towards 0 by a normal prior;
no block takes less than nothing. Where a device has no fast kernel for an operation, its multiply-adds tell
more than another device's latency. It stays a sum over blocks, so that a differentiable search can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from scipy.optimize import nnls

from netsmith.arch import Arch
from netsmith.errors import TableError
from netsmith.latency.cache import TableCache, TableStore
from netsmith.latency.correction import Correction
from netsmith.latency.fit import alone_ms, block_counts, measured_ms
from netsmith.latency.heldout import HeldOut
from netsmith.latency.measuring import NETWORKS_LIMIT_S, Measuring, OnProgress, Timer, without_moved
from netsmith.latency.model import LatencyModel
from netsmith.latency.networks import choose_networks
from netsmith.latency.profile import HELDOUT_NETWORKS
from netsmith.latency.regression import Array
from netsmith.latency.table import LatencyTable, describe_fingerprint, network_key
from netsmith.nn.count import count_block
from netsmith.plan import Block, Plan
from netsmith.spaces.space import BlockSpace

NETWORKS = 10
# Standard deviations of the priors, relative to the common scale, and of a measurement; of the multiply-adds,
# relative to what a mean network takes for each.
_CONSTANT, _SCALE, _KIND, _OWN, _WORK, _NOISE = 1.0, 1.0, 3.0, 0.3, 5.0, 0.015


@dataclass(frozen=True)
class Transferred:
    """The model of the new device, and how far the known one ranks networks as it does (Spearman)."""

    model: LatencyModel
    agreement: float

    def describe(self) -> str:
        """Say in a line how alike the devices are."""
        return f"the known device ranks the measured networks alike: rank correlation {self.agreement:.3f}"


def transfer(
    space: BlockSpace,
    timer: Timer,
    known: LatencyModel,
    *,
    networks: int = NETWORKS,
    heldout_networks: int = HELDOUT_NETWORKS,
    networks_s: float = NETWORKS_LIMIT_S,
    store: TableStore | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total, note: None,
) -> Transferred:
    """Measure ``networks`` archs of ``space``, and as many held out as asked, and fit the model to them.

    All are timed for at most ``networks_s`` seconds.

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
    table = Measuring(timer, store, on_progress, len(missing)).networks(table, missing, networks_s)

    first, others = [space.plan(arch) for arch in fitted], [space.plan(arch) for arch in heldout]
    correction = fit_transfer(known.table, first, measured_ms(table, first))
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


def fit_transfer(known: LatencyTable, plans: Sequence[Plan], measured: Array) -> Correction:
    """Fit a known device's blocks to networks that took ``measured`` ms on the new one, (plans,).

    Raises :class:`TableError` where the table lacks a block of theirs.
    """
    blocks, of_block = [row.blocks[0] for row in known.rows.values()], alone_ms(known)
    counts = block_counts(known, plans)
    alone, usual_ms = counts * of_block, float(measured.mean())
    total = alone.sum(1)
    scale = float(np.median(measured / total))
    kinds, work = _kinds(blocks), _work(blocks)
    a_mac = usual_ms / float((counts @ work).sum(1).mean())
    # What a prior's width of each term adds to each block, (terms, blocks).
    of_terms = np.concatenate(
        [
            _SCALE * scale * of_block[None, :],
            _KIND * scale * of_block * kinds.T,
            _WORK * a_mac * work.T,
            _OWN * scale * np.diag(np.maximum(of_block, of_block[of_block > 0].min(initial=1.0))),
        ]
    )
    # The likeliest latencies of the blocks, none of them below 0: weighted least squares of the networks
    # and, whitened by its covariance, of the prior.
    noise = _NOISE * measured
    white = np.linalg.inv(np.linalg.cholesky(of_terms.T @ of_terms))
    rows = np.block(
        [
            [counts / noise[:, None], np.ones((len(total), 1)) / noise[:, None]],
            [white, np.zeros((len(blocks), 1))],
            [np.zeros((1, len(blocks))), np.full((1, 1), 1 / (_CONSTANT * usual_ms))],
        ]
    )
    wanted = np.concatenate([measured / noise, white @ (scale * of_block), [0.0]])
    found, _ = nnls(rows, wanted)
    own = {
        key: float(block_ms / ms - scale)
        for key, block_ms, ms in zip(known.rows, found[:-1], of_block, strict=True)
        if ms > 0
    }
    return Correction(float(found[-1]), scale, 0.0, own)


def _kinds(blocks: Sequence[Block]) -> Array:
    """What runtimes differ about, an operation and its kernel: (blocks, kinds), 1 where a block is of one."""
    of_blocks = [f"{block.op} k{block.kernel}" for block in blocks]
    return np.array([[float(kind == own) for kind in sorted(set(of_blocks))] for own in of_blocks])


def _work(blocks: Sequence[Block]) -> Array:
    """The depthwise multiply-adds of each kernel, and last all others: (blocks, kernels + 1)."""
    kernels = sorted({block.kernel for block in blocks if block.op == "mbconv"})
    work = np.zeros((len(blocks), len(kernels) + 1))
    for row, block in zip(work, blocks, strict=True):
        row[-1] = count_block(block).macs
        if block.op == "mbconv":
            height, width = block.output_size
            depthwise = block.hidden * block.kernel**2 * height * width
            row[kernels.index(block.kernel)] = depthwise
            row[-1] -= depthwise
    return work


def _choose(space: BlockSpace, fitted: int, heldout: int, seed: int) -> tuple[list[Arch], list[Arch]]:
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
