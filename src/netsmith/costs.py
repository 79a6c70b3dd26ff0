"""What the archs of a chain cost: a sum over their choices, bent where devices are not additive.

Networks of more weights than a cache holds take longer than their blocks do one by one, so latency grows a
little faster than the sum. The bend is increasing, so that a limit of the cost is one of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Costs(NamedTuple):
    """Costs ``bent(constant + sum(edges[i][choices[i]]), bend)``: milliseconds, or what is counted.

    ``bend`` is 0 or more, in one over the unit of the cost.
    """

    constant: float
    edges: Sequence[Sequence[float]]
    bend: float = 0.0


def bent(straight: float, bend: float) -> float:
    """Return ``straight + bend * straight**2``, for sums from 0 up."""
    return straight + bend * straight * straight


def straightened(cost: float, bend: float) -> float:
    """Return the sum whose bent cost is ``cost``; what is below 0 or not finite is returned as it is."""
    return 2 * cost / (1 + math.sqrt(1 + 4 * bend * cost)) if 0 < cost < math.inf else cost
