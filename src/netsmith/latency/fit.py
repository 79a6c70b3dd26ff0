"""The predictors of networks' latencies, from the cheapest to the best, and what they are fitted to.

``sum`` takes blocks as they are alone, ``corrected`` scales them all alike, and ``learned`` lets blocks and
kinds of blocks depart from the scale and latency grow faster than the sum, as far as what was measured of
whole networks makes that likely: with few or noisy measurements it is ``corrected``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np

from netsmith.errors import TableError
from netsmith.latency.correction import Correction
from netsmith.latency.regression import Array, Networks, Posterior, Prior, most_likely
from netsmith.latency.table import LatencyTable, network_key, timed_alone
from netsmith.nn.count import count_block
from netsmith.plan import Block, Plan

Predictor = Literal["sum", "corrected", "learned"]
PREDICTORS: tuple[Predictor, ...] = ("sum", "corrected", "learned")

_OWN, _KIND, _BEND = (0.01, 0.03, 0.1, 0.3), (0.0, 0.03, 0.1, 0.3, 1.0), (0.0, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
_NOISE = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03)
_PRIORS: Mapping[Predictor, list[Prior]] = {
    "sum": [],
    "corrected": [Prior(0.0, 0.0, 0.0, noise) for noise in _NOISE],
    "learned": [Prior(*widths) for widths in product((0.0, *_OWN), _KIND, _BEND, _NOISE)],
}
_LEAST_NETWORKS = 8


def block_counts(table: LatencyTable, plans: Sequence[Plan]) -> Array:
    """Return how often each plan has the block of each row of the table, (plans, rows).

    Raises :class:`netsmith.errors.TableError` where the table lacks a block of theirs.
    """
    places = {key: i for i, key in enumerate(table.rows)}
    counts = np.zeros((len(plans), len(places)))
    for i, plan in enumerate(plans):
        for block in timed_alone(plan.blocks):
            counts[i, places[table.row(block).blocks[0].key]] += 1
    return counts


def alone_ms(table: LatencyTable) -> Array:
    """Return what the block of each row takes alone, without the call, (rows,)."""
    return np.array([table.alone_ms(row.blocks[0]) for row in table.rows.values()])


def block_sums(table: LatencyTable, plans: Sequence[Plan]) -> tuple[Array, Array]:
    """Return what each plan takes for each row, alone, (plans, rows), and its bytes of weights, (plans,).

    Raises :class:`netsmith.errors.TableError` where the table lacks a block of theirs.
    """
    counts = block_counts(table, plans)
    size = np.array([count_block(row.blocks[0]).size_bytes for row in table.rows.values()])
    return counts * alone_ms(table), counts @ size


def measured_ms(table: LatencyTable, plans: Sequence[Plan]) -> Array:
    """Return the measured latency of each plan, (plans,)."""
    return np.array([table.networks[network_key(plan.blocks)].median_ms for plan in plans])


def kinds_of(table: LatencyTable) -> Array:
    """Return of which kinds the rows of a table are, (rows, kinds): kernels, expansions, resolutions."""
    of_blocks = [_kinds_of(row.blocks[0]) for row in table.rows.values()]
    names = sorted({kind for kinds in of_blocks for kind in kinds})
    return np.array([[float(name in kinds) for name in names] for kinds in of_blocks]).reshape(-1, len(names))


def fit(
    networks: Networks, keys: Sequence[str], predictor: Predictor = "learned"
) -> tuple[Correction, Posterior | None]:
    """Fit a correction to networks that were measured whole, ``keys`` naming the blocks of their columns.

    With few networks only the constant is fitted, and there is no posterior. Raises :class:`TableError`
    where latencies of networks do not grow with those of their blocks.
    """
    total, measured = networks.alone_ms.sum(1), networks.measured_ms
    if len(measured) < _LEAST_NETWORKS or predictor == "sum":
        constant = float(np.median(measured - total)) if len(measured) else 0.0
        return Correction(constant, 1.0, 0.0), None
    found = most_likely(networks, _PRIORS[predictor])
    if found.per_byte_ms < 0 or np.ptp(networks.weight_bytes) == 0:  # weights never make a network faster
        found = most_likely(networks, [replace(prior, per_byte=0.0) for prior in _PRIORS[predictor]])
    if found.scale <= 0:
        raise TableError(
            "whole networks do not take longer when their blocks do: the measurements cannot be right. "
            "Profile again on a quieter machine"
        )
    own = {key: float(value) for key, value in zip(keys, found.own, strict=True) if value}
    return Correction(found.constant_ms, found.scale, found.per_byte_ms, own, found.bend_per_ms), found


def _kinds_of(block: Block) -> tuple[str, ...]:
    expansion = block.hidden // block.in_channels
    return (
        f"{block.op} kernel {block.kernel}",
        f"{block.op} expansion {expansion}",
        f"{block.op} at {block.height}x{block.width}",
    )
