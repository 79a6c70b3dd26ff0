"""The front: what nothing else beats in every objective. All objectives are minimised."""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[Sequence[float]]
"""One point for each sequence, one objective for each of its numbers; infinite where nothing is known."""


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in every objective and better in one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: Points) -> list[int]:
    """Return the indices of the non-dominated points, in their order.

    Points that are equal in every objective are all kept. Quadratic in the number of points.
    """
    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]


def ranks(points: Points) -> list[int]:
    """Return of each point in which front it is: 0 in the first, 1 in that of what is left without it, ...

    Non-dominated sorting (Deb et al. 2002, section III-A).
    """
    if not points:
        return []
    import moocore
    import numpy as np

    return [int(rank) for rank in moocore.pareto_rank(np.array(points, float))]


def crowding(points: Points) -> list[float]:
    """Return of each point of one front how far its neighbours are: what is least crowded is worth most.

    The crowding distance (Deb et al. 2002, section III-B): of each objective the gap between the points
    next to it, over the range, added up; infinite for those of the least or greatest value, all of them.
    """
    distances = [0.0] * len(points)
    for column in zip(*points, strict=True):
        least, most = min(column), max(column)
        order = sorted(range(len(column)), key=column.__getitem__)
        for place, i in enumerate(order):
            if column[i] in (least, most):
                distances[i] = math.inf
            else:
                gap = column[order[place + 1]] - column[order[place - 1]]
                distances[i] += gap / (most - least) if math.isfinite(most) else 0.0
    return distances


def worths(points: Points) -> list[tuple[int, float]]:
    """Return of each point its rank and how crowded its front is around it: the least pair is the best.

    The crowded-comparison operator of NSGA-II (Deb et al. 2002). Of one objective the plain order.
    """
    fronts: dict[int, list[int]] = {}
    for i, rank in enumerate(ranks(points)):
        fronts.setdefault(rank, []).append(i)
    found = [(0, 0.0)] * len(points)
    for rank, members in fronts.items():
        for i, distance in zip(members, crowding([points[i] for i in members]), strict=True):
            found[i] = (rank, -distance)
    return found


def hypervolume(points: Points, reference: Sequence[float]) -> float:
    """Return the volume of what is dominated by ``points`` and dominates ``reference``.

    Exact, in the product of the objectives' units. A point that is not better than the reference in every
    objective adds nothing.
    """
    if not points:
        return 0.0
    import moocore
    import numpy as np

    return float(moocore.hypervolume(np.array(points, float), ref=np.array(reference, float)))
