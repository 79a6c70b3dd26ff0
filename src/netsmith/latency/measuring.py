"""Measuring blocks and networks for a latency table: in groups, each kept the moment it is known."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

import torch
from torch import nn

from netsmith.latency.cache import TableStore
from netsmith.latency.table import LatencyTable, Row, network_key
from netsmith.nn.blocks import build_block
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, Plan

_CALL = "call"
# How many are timed in turn; what was measured is kept after each group. A restless machine shifts groups
# of networks against each other (Spearman 0.78 to 0.94 in groups of 14, 0.98 in one): they need one.
_BLOCKS_A_GROUP, _NETWORKS_A_GROUP = 40, 160
_BLOCKS_LIMIT_S, NETWORKS_LIMIT_S = 12.0, 50.0
_WIDTH, _LEAST_ROUNDS = 0.01, 30
# Networks of a space that are timed again before its rows are reused, and how far off their median may be. A
# busy neighbour moves it by 5 % against the reference within minutes; another host moved it by 15 %.
_CHECKED, _CHECK_LIMIT_S, _STALE = 5, 6.0, 0.1

T = TypeVar("T")

_log = logging.getLogger(__name__)

Subject = tuple[nn.Module, tuple[int, int, int], Literal["float32", "uint8"]]


class Timing(Protocol):
    """The figures of one timed module."""

    @property
    def median_ms(self) -> float:
        """The median of its samples."""

    @property
    def low_ms(self) -> float:
        """A low quantile of its samples."""

    @property
    def spread(self) -> float:
        """Half the median's confidence interval over the median."""

    @property
    def rounds(self) -> int:
        """How many samples there are."""


class Timer(Protocol):
    """What times modules on a device: :class:`netsmith.devices.bench.Bench`."""

    reference_ms: float

    def fingerprint(self) -> dict[str, str]:
        """What the device's latencies depend on."""

    def time(
        self, subjects: Mapping[str, Subject], *, width: float, least_rounds: int, limit_s: float
    ) -> Mapping[str, Timing]:
        """Time modules in turn until each is known to ``width``, or ``limit_s`` is over."""


OnProgress = Callable[[float, float, str], None]
"""Receives what is done, of how much, and a note."""


class Measuring:
    """Measures group after group, keeping each at once and telling how far it is."""

    def __init__(self, timer: Timer, store: TableStore, on_progress: OnProgress, total: int) -> None:
        self._timer, self._store, self._on_progress = timer, store, on_progress
        self._done, self._total = 0, total

    def blocks(self, table: LatencyTable, blocks: Sequence[Block]) -> LatencyTable:
        """Measure blocks alone, beside the call that computes nothing."""
        for group in _groups(blocks, _BLOCKS_A_GROUP):
            table = self._blocks(table, group)
        return table

    def networks(
        self, table: LatencyTable, plans: Sequence[Plan], limit_s: float = NETWORKS_LIMIT_S
    ) -> LatencyTable:
        """Measure whole networks, each group for at most ``limit_s`` seconds."""
        for group in _groups(plans, _NETWORKS_A_GROUP):
            table = self._networks(table, group, limit_s)
        return table

    def _blocks(self, table: LatencyTable, blocks: Sequence[Block]) -> LatencyTable:
        subjects: dict[str, Subject] = {b.key: (_seeded(b), b.input_shape, "float32") for b in blocks}
        if not table.call_ms:
            subjects[_CALL] = (nn.ReLU(), (1, 1, 1), "float32")
        timed = self._time(subjects, _BLOCKS_LIMIT_S)
        if _CALL in timed:
            table = replace(table, call_ms=timed[_CALL].median_ms)
        return self._keep(table, {b.key: _row((b,), timed[b.key]) for b in blocks}, {}, "blocks")

    def _networks(self, table: LatencyTable, plans: Sequence[Plan], limit_s: float) -> LatencyTable:
        subjects: dict[str, Subject] = {network_key(plan.blocks): _subject(plan) for plan in plans}
        timed = self._time(subjects, limit_s)
        rows = {network_key(p.blocks): _row(p.blocks, timed[network_key(p.blocks)]) for p in plans}
        return self._keep(table, {}, rows, "networks")

    def _time(self, subjects: Mapping[str, Subject], limit_s: float) -> dict[str, Timing]:
        return dict(self._timer.time(subjects, width=_WIDTH, least_rounds=_LEAST_ROUNDS, limit_s=limit_s))

    def _keep(
        self, table: LatencyTable, rows: Mapping[str, Row], networks: Mapping[str, Row], note: str
    ) -> LatencyTable:
        table = table.with_rows(rows, networks)
        self._store.save(table)
        self._done += len(rows) + len(networks)
        self._on_progress(self._done, self._total, note)
        return table


def without_moved(
    table: LatencyTable, blocks: Sequence[Block], plans: Mapping[str, Plan], timer: Timer
) -> LatencyTable:
    """Return the table without these blocks and networks where some of the networks now take another time."""
    known = [key for key in plans if key in table.networks][:_CHECKED]
    if not known:
        return table
    timed = timer.time(
        {key: _subject(plans[key]) for key in known},
        width=_WIDTH, least_rounds=_LEAST_ROUNDS, limit_s=_CHECK_LIMIT_S,
    )  # fmt: skip
    moved = statistics.median(timed[key].median_ms / table.networks[key].median_ms for key in known)
    if abs(moved - 1) <= _STALE:
        return table
    _log.warning("networks take %.2f times what the latency table says; it is measured again", moved)
    return table.without(blocks, plans)


def _row(blocks: tuple[Block, ...], timing: Timing) -> Row:
    return Row(blocks, timing.median_ms, timing.low_ms, timing.spread, timing.rounds)


def _seeded(block: Block) -> nn.Module:
    """Build a block with the same weights at every call, the caller's random numbers untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_block(block).eval()


def _subject(plan: Plan) -> Subject:
    """Build a network as it is deployed: pixels in, logits out."""
    channels = plan.input_shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(Normalize((0.5,) * channels, (0.25,) * channels), Network(plan)).eval()
    return module, plan.input_shape, "uint8"


def _groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split into groups of about equal length, none over ``size``."""
    number = -(-len(items) // size)
    for i in range(number):
        yield items[len(items) * i // number : len(items) * (i + 1) // number]
