"""Predicting the latency of any network whose blocks are in a device's table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netsmith.costs import Costs
from netsmith.errors import TableError
from netsmith.latency.correction import Correction
from netsmith.latency.heldout import HeldOut
from netsmith.latency.table import LatencyTable, timed_alone
from netsmith.nn.count import count_block
from netsmith.plan import Block, Plan
from netsmith.spaces.space import BlockSpace

VERSION = 2


@dataclass(frozen=True)
class LatencyModel:
    """A table of blocks, the correction from blocks to networks, and the error where it was checked."""

    table: LatencyTable
    correction: Correction
    heldout: HeldOut

    def block_ms(self, block: Block) -> float:
        """Return what ``block`` adds to the latency of a network, before the latency is bent.

        Raises :class:`TableError` where the table does not have it, or an operation of a sum.
        """
        return math.fsum(
            self.correction.block_ms(part.key, self.table.alone_ms(part), count_block(part).size_bytes)
            for part in timed_alone((block,))
        )

    def predict(self, plan: Plan) -> float:
        """Return the predicted latency of a plan in milliseconds, one image a pass, preprocessing included.

        Raises :class:`TableError` where the table lacks one of its blocks.
        """
        return self.correction.network_ms(math.fsum(map(self.block_ms, plan.blocks)))

    def try_predict(self, plan: Plan) -> float | None:
        """Return :meth:`predict`'s figure, or None where the table lacks a block."""
        return None if self.table.missing(plan.blocks) else self.predict(plan)

    def shares(self, plan: Plan) -> tuple[float, ...]:
        """Return the milliseconds of each block: with the constant's they are the prediction."""
        blocks = [self.block_ms(block) for block in plan.blocks]
        whole = self.correction.constant_ms + math.fsum(blocks)
        factor = self.correction.network_ms(math.fsum(blocks)) / whole if whole else 1.0
        return tuple(factor * block for block in blocks)

    def costs(self, space: BlockSpace) -> Costs:
        """Return the costs of the space's choices in milliseconds, which are :meth:`predict` of every arch.

        Raises :class:`TableError` where the table lacks a block of the space.
        """
        missing = self.table.missing(space.blocks)
        if missing:
            raise TableError(
                f"the latency table lacks {len(missing)} of the {len(space.blocks)} blocks of space "
                f"'{space.id}', the first {missing[0].key}. Profile the device for this space"
            )
        fixed = map(self.block_ms, (*space.stem, *space.head))
        constant = math.fsum((self.correction.constant_ms, *fixed))
        edges = tuple(tuple(map(self.block_ms, options)) for options in space.edges)
        return Costs(constant, edges, self.correction.bend_per_ms)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; :meth:`from_dict` reads them back."""
        return {
            "version": VERSION,
            "table": self.table.to_dict(),
            "correction": self.correction.to_dict(),
            "heldout": self.heldout.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyModel:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on another version or a damaged part."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            raise TableError(f"a latency model of version {VERSION} was expected; got {data!r:.100}")
        parts = [data.get(name) for name in ("table", "correction", "heldout")]
        if not all(isinstance(part, Mapping) for part in parts):
            raise TableError("a damaged latency model: it needs a table, a correction and a held-out error")
        return cls(
            LatencyTable.from_dict(data["table"]),
            Correction.from_dict(data["correction"]),
            HeldOut.from_dict(data["heldout"]),
        )
