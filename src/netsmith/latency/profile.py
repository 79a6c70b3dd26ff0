"""Building the latency model of a space on a device.

Every distinct block is measured alone, hot; then whole networks, from the smallest to the largest, of
which some fit the correction and others only check it. What was measured on an earlier day is believed once a
few of its networks were timed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np

from netsmith.latency.cache import TableCache, TableStore
from netsmith.latency.fit import Array, HeldOut, fit
from netsmith.latency.measuring import Measuring, OnProgress, Timer, without_moved
from netsmith.latency.model import LatencyModel
from netsmith.latency.networks import choose_networks
from netsmith.latency.table import FREE_OPERATIONS, LatencyTable, network_key
from netsmith.nn.count import count_block
from netsmith.plan import Block, Plan
from netsmith.spaces.chain import ChainSpace

FIT_NETWORKS, HELDOUT_NETWORKS = 40, 16


def profile(
    space: ChainSpace,
    timer: Timer,
    *,
    extra: Sequence[Block] = (),
    store: TableStore | None = None,
    fit_networks: int = FIT_NETWORKS,
    heldout_networks: int = HELDOUT_NETWORKS,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total, note: None,
) -> LatencyModel:
    """Measure what ``store`` does not have yet of the space's blocks, and fit and check the model.

    ``store`` is the user's cache where not given; it receives every group of rows as it is measured, so
    that a killed profile goes on where it was. ``extra`` blocks, of baselines say, are measured too.
    ``heldout_networks`` are archs drawn uniformly, none of them among the ``fit_networks``. Raises
    :class:`netsmith.errors.TableError` where measurements contradict each other.
    """
    store = TableCache() if store is None else store
    fitted, heldout = choose_networks(space, fit_networks, heldout_networks, seed)
    order = Random(seed).sample([*fitted, *heldout], len(fitted) + len(heldout))
    plans = {network_key(plan.blocks): plan for plan in map(space.plan, order)}
    blocks = tuple(dict.fromkeys((*space.blocks, *extra)))

    table = store.load(timer.fingerprint()) or LatencyTable(timer.fingerprint(), timer.reference_ms)
    table = table.scaled_to(timer.reference_ms)
    table = without_moved(table, blocks, plans, timer)
    blocks = table.missing(blocks)
    plans = {key: plan for key, plan in plans.items() if key not in table.networks}
    measuring = Measuring(timer, store, on_progress, len(blocks) + len(plans))
    table = measuring.networks(measuring.blocks(table, blocks), list(plans.values()))
    return build_model(table, [space.plan(arch) for arch in fitted], [space.plan(arch) for arch in heldout])


def build_model(table: LatencyTable, fitted: Sequence[Plan], heldout: Sequence[Plan]) -> LatencyModel:
    """Fit the correction to the measured networks ``fitted``, and check it on ``heldout``.

    Raises :class:`netsmith.errors.TableError` where the table lacks a block or a network of theirs.
    """
    alone, weights, keys = block_sums(table, fitted)
    correction = fit(alone, weights, measured(table, fitted), keys)
    return checked(LatencyModel(table, correction, HeldOut((), ())), measured(table, heldout), heldout)


def block_sums(table: LatencyTable, plans: Sequence[Plan]) -> tuple[Array, Array, list[str]]:
    """Return what each plan has of each block, alone without the call, its bytes of weights, and the keys.

    The shapes are (plans, blocks) and (plans,). Raises :class:`netsmith.errors.TableError` where the table
    lacks a block.
    """
    keys = list(table.rows)
    places = {key: i for i, key in enumerate(keys)}
    alone, weights = np.zeros((len(plans), len(keys))), np.zeros(len(plans))
    for i, plan in enumerate(plans):
        for block in plan.blocks:
            if block.op not in FREE_OPERATIONS:
                alone_ms = max(0.0, table.row(block).median_ms - table.call_ms)
                alone[i, places[block.key]] += alone_ms
                weights[i] += count_block(block).size_bytes
    used = np.flatnonzero(alone.any(0))
    return alone[:, used], weights, [keys[i] for i in used]


def checked(model: LatencyModel, measured_ms: Array, heldout: Sequence[Plan]) -> LatencyModel:
    """Return the model with its error on plans that it was not built from."""
    predicted = tuple(model.predict(plan) for plan in heldout)
    return replace(model, heldout=HeldOut(predicted, tuple(measured_ms.tolist())))


def measured(table: LatencyTable, plans: Sequence[Plan]) -> Array:
    """Return the measured latency of each plan, (plans,)."""
    return np.array([table.networks[network_key(plan.blocks)].median_ms for plan in plans])
