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
from netsmith.latency.fit import Predictor, block_sums, fit, kinds_of, measured_ms
from netsmith.latency.heldout import HeldOut
from netsmith.latency.measuring import NETWORKS_LIMIT_S, Measuring, OnProgress, Timer, without_moved
from netsmith.latency.model import LatencyModel
from netsmith.latency.networks import choose_networks
from netsmith.latency.regression import Networks
from netsmith.latency.table import LatencyTable, network_key
from netsmith.plan import Block
from netsmith.spaces.space import BlockSpace

FIT_NETWORKS, HELDOUT_NETWORKS = 40, 16


def profile(
    space: BlockSpace,
    timer: Timer,
    *,
    extra: Sequence[Block] = (),
    store: TableStore | None = None,
    fit_networks: int = FIT_NETWORKS,
    heldout_networks: int = HELDOUT_NETWORKS,
    networks_s: float = NETWORKS_LIMIT_S,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total, note: None,
) -> LatencyModel:
    """Measure what ``store`` does not have yet of the space's blocks, and fit and check the model.

    ``store`` is the user's cache where not given; it receives every group of rows as it is measured, so
    that a killed profile goes on where it was. ``extra`` blocks, of baselines say, are measured too.
    ``heldout_networks`` are archs drawn uniformly, none of them among the ``fit_networks``; all are timed for
    at most ``networks_s`` seconds. The predictor is
    the best of :mod:`netsmith.latency.fit`. Raises :class:`netsmith.errors.TableError` where measurements
    contradict each other.
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
    table = measuring.networks(measuring.blocks(table, blocks), list(plans.values()), networks_s)
    return fit_model(
        space, table, extra=extra, fit_networks=fit_networks, heldout_networks=heldout_networks, seed=seed
    )


def fit_model(
    space: BlockSpace,
    table: LatencyTable,
    predictor: Predictor = "learned",
    *,
    extra: Sequence[Block] = (),
    fit_networks: int = FIT_NETWORKS,
    heldout_networks: int = HELDOUT_NETWORKS,
    seed: int = 0,
) -> LatencyModel:
    """Fit a predictor to what :func:`profile` measured with the same numbers and seed, and check it.

    What else the table holds is left out, so that no design depends on what was measured before it. Raises
    :class:`netsmith.errors.TableError` where the table lacks a block of the space.
    """
    chosen = choose_networks(space, fit_networks, heldout_networks, seed)
    fitted, heldout = ([space.plan(arch) for arch in archs] for archs in chosen)
    own = table.of((*space.blocks, *extra))
    networks = Networks(*block_sums(own, fitted), measured_ms(own, fitted), kinds_of(own))
    correction, posterior = fit(networks, list(own.rows), predictor)
    model = LatencyModel(table, correction, HeldOut((), ()))
    predicted = np.array([model.predict(plan) for plan in heldout])
    sd = () if posterior is None else posterior.sd_ms(*block_sums(own, heldout), predicted).tolist()
    found = HeldOut(tuple(predicted.tolist()), tuple(measured_ms(table, heldout).tolist()), tuple(sd))
    return replace(model, heldout=found)
