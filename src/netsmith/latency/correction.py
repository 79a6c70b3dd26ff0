"""From blocks measured alone to whole networks: the terms of the correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netsmith.costs import bent
from netsmith.errors import TableError

_NOTABLE = 0.05


@dataclass(frozen=True)
class Correction:
    """The fitted terms, in milliseconds (and milliseconds a byte); ``own`` by the key of the block.

    A network takes ``bent(constant + sum over blocks of block_ms, bend_per_ms)``.
    """

    constant_ms: float
    scale: float
    per_byte_ms: float
    own: Mapping[str, float] = field(default_factory=dict)
    bend_per_ms: float = 0.0

    def block_ms(self, key: str, alone_ms: float, weight_bytes: int) -> float:
        """Return what a block adds before bending, given its latency alone without the call."""
        factor = max(0.0, self.scale + self.own.get(key, 0.0))
        return factor * alone_ms + self.per_byte_ms * weight_bytes

    def network_ms(self, blocks_ms: float) -> float:
        """Return the latency of a network whose blocks add ``blocks_ms``."""
        return bent(self.constant_ms + blocks_ms, self.bend_per_ms)

    def describe(self) -> str:
        """Say in a line how a network's latency follows from its blocks'."""
        departing = sum(abs(own) > _NOTABLE * self.scale for own in self.own.values())
        weights = f" + {1e6 * self.per_byte_ms:.3g} x its MB of weights" if self.per_byte_ms else ""
        return (
            f"a network takes S{f' + {self.bend_per_ms:.3g} S^2' if self.bend_per_ms else ''} ms, where S = "
            f"{self.constant_ms:.3g} + {self.scale:.3g} x its blocks alone{weights}; "
            f"{departing} blocks depart from that by more than {100 * _NOTABLE:.0f} %"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self) | {"own": dict(self.own)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Correction:
        """Read :meth:`to_dict`'s values. Raises :class:`TableError` on anything else."""
        names = ("constant_ms", "scale", "per_byte_ms", "bend_per_ms")
        try:
            constant, scale, per_byte, bend = (float(data[name]) for name in names)
            own = {str(key): float(value) for key, value in data["own"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TableError(f"not the correction of a latency model: {data!r:.200} ({error})") from None
        if not all(map(math.isfinite, (constant, scale, per_byte, bend, *own.values()))) or bend < 0:
            raise TableError(
                "a correction of a latency model holds figures that are not finite, or a bend below 0"
            )
        return cls(constant, scale, per_byte, own, bend)
