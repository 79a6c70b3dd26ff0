"""What was measured of a device: its blocks, each alone, and whole networks.

A table belongs to one device fingerprint. Its figures are those of a machine on which the reference network
takes ``reference_ms``; they are rescaled when another moment says otherwise, so all of them compare.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from netsmith.errors import NetsmithError, TableError
from netsmith.plan import Block

VERSION = 1
UNITS = "ms"
_MOST_ROWS = 1_000_000

# An identity leaves nothing in an exported network, so there is nothing to measure.
FREE_OPERATIONS = frozenset({"skip"})


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, in milliseconds a pass: of a block alone, or of a network of several."""

    blocks: tuple[Block, ...]
    median_ms: float
    low_ms: float
    spread: float
    """Half the confidence interval of the median over the median."""
    count: int
    """How many samples it rests on."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self) | {"blocks": [block.to_dict() for block in self.blocks]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on anything else."""
        try:
            blocks = tuple(Block.from_dict(block) for block in data["blocks"])
            median, low, spread = (float(data[name]) for name in ("median_ms", "low_ms", "spread"))
            row = cls(blocks, median, low, spread, int(data["count"]))
        except (KeyError, TypeError, ValueError, NetsmithError) as error:
            raise TableError(f"not a row of a latency table: {data!r:.200} ({error})") from None
        if not blocks or not all(math.isfinite(f) and f >= 0 for f in (median, low, spread)):
            raise TableError(f"a row of a latency table needs blocks and latencies from 0 up: {data!r:.200}")
        return row


@dataclass(frozen=True)
class LatencyTable:
    """The measured rows of one device: blocks by :attr:`Block.key`, networks by :func:`network_key`.

    ``call_ms`` is what a pass costs that computes nothing.
    """

    fingerprint: Mapping[str, str]
    reference_ms: float
    call_ms: float = 0.0
    rows: Mapping[str, Row] = field(default_factory=dict)
    networks: Mapping[str, Row] = field(default_factory=dict)

    def row(self, block: Block) -> Row:
        """Return the row of ``block``. Raises :class:`TableError`, naming it, where there is none."""
        if block.key in self.rows:
            return self.rows[block.key]
        same = [key for key, row in self.rows.items() if row.blocks[0].op == block.op]
        raise TableError(
            f"the latency table of {describe_fingerprint(self.fingerprint)} has no block {block.key}; of "
            f"operation '{block.op}' it has {len(same)}{f', such as {same[0]}' if same else ''}. "
            "Profile the device for this space"
        )

    def alone_ms(self, block: Block) -> float:
        """Return what ``block`` takes alone, without the call. Raises as :meth:`row`."""
        return 0.0 if block.op in FREE_OPERATIONS else max(0.0, self.row(block).median_ms - self.call_ms)

    def missing(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Return the distinct blocks that must still be measured, in their order."""
        return tuple(block for block in dict.fromkeys(timed_alone(blocks)) if block.key not in self.rows)

    def of(self, blocks: Iterable[Block]) -> LatencyTable:
        """Return the table of these blocks alone, in their order. Raises as :meth:`row`."""
        rows = {block.key: self.row(block) for block in timed_alone(blocks)}
        return replace(self, rows=rows)

    def with_rows(
        self, rows: Mapping[str, Row] | None = None, networks: Mapping[str, Row] | None = None
    ) -> LatencyTable:
        """Return the table with rows added; a new one takes the place of an old one."""
        return replace(
            self, rows={**self.rows, **(rows or {})}, networks={**self.networks, **(networks or {})}
        )

    def without(self, blocks: Iterable[Block], networks: Iterable[str]) -> LatencyTable:
        """Return the table without the call, the rows of ``blocks`` and of the networks of these names."""
        keys, names = {block.key for block in blocks}, set(networks)
        return replace(
            self,
            call_ms=0.0,
            rows={key: row for key, row in self.rows.items() if key not in keys},
            networks={key: row for key, row in self.networks.items() if key not in names},
        )

    def scaled_to(self, reference_ms: float) -> LatencyTable:
        """Return the same table as of a moment at which the reference takes ``reference_ms``."""
        if reference_ms == self.reference_ms:
            return self
        factor = reference_ms / self.reference_ms
        return replace(
            self,
            reference_ms=reference_ms,
            call_ms=self.call_ms * factor,
            rows=_scaled(self.rows, factor),
            networks=_scaled(self.networks, factor),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; :meth:`from_dict` reads them back."""
        return {
            "version": VERSION,
            "units": UNITS,
            "fingerprint": dict(self.fingerprint),
            "reference_ms": self.reference_ms,
            "call_ms": self.call_ms,
            "rows": {key: row.to_dict() for key, row in self.rows.items()},
            "networks": {key: row.to_dict() for key, row in self.networks.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyTable:
        """Read :meth:`to_dict`'s values strictly.

        Raises :class:`TableError` on another version or units, a missing field, a row under a key that is not
        its block's, or figures that are not latencies.
        """
        if not isinstance(data, Mapping) or data.get("version") != VERSION or data.get("units") != UNITS:
            version = data.get("version") if isinstance(data, Mapping) else None
            raise TableError(
                f"a latency table of version {VERSION} in {UNITS} was expected; got version "
                f"{version!r}. Profile the device again"
            )
        try:
            rows, networks = (
                {str(key): Row.from_dict(row) for key, row in data[part].items()}
                for part in ("rows", "networks")
            )
            fingerprint = {str(key): str(value) for key, value in data["fingerprint"].items()}
            table = cls(fingerprint, float(data["reference_ms"]), float(data["call_ms"]), rows, networks)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TableError(f"a damaged latency table ({type(error).__name__}: {error})") from None
        table._check()
        return table

    def _check(self) -> None:
        if not (math.isfinite(self.reference_ms) and self.reference_ms > 0 and self.call_ms >= 0):
            raise TableError(
                f"a latency table needs a reference above 0 ms and a call of 0 or more; got "
                f"{self.reference_ms} and {self.call_ms}"
            )
        if len(self.rows) + len(self.networks) > _MOST_ROWS:
            raise TableError(f"a latency table holds at most {_MOST_ROWS} rows")
        for key, row in self.rows.items():
            if len(row.blocks) != 1 or row.blocks[0].key != key:
                raise TableError(f"row '{key}' of a latency table is of {[b.key for b in row.blocks]}")
        for key, row in self.networks.items():
            if network_key(row.blocks) != key:
                raise TableError(f"network '{key}' of a latency table is of other blocks than its name says")


def timed_alone(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks that are timed alone: of a sum its terms, of what leaves nothing none."""
    for block in blocks:
        if block.op not in FREE_OPERATIONS:
            yield from block.terms


def network_key(blocks: Iterable[Block]) -> str:
    """Name a network by its blocks, those left out that leave nothing: equal computations, equal names."""
    return " ".join(block.key for block in blocks if block.op not in FREE_OPERATIONS)


def describe_fingerprint(fingerprint: Mapping[str, str]) -> str:
    """Return a fingerprint in a line."""
    return json.dumps(dict(fingerprint), ensure_ascii=False)


def _scaled(rows: Mapping[str, Row], factor: float) -> dict[str, Row]:
    return {
        key: replace(row, median_ms=row.median_ms * factor, low_ms=row.low_ms * factor)
        for key, row in rows.items()
    }
