"""The front: what nothing else beats in every objective. All objectives are minimised."""

from __future__ import annotations

from collections.abc import Sequence


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether ``a`` is no worse than ``b`` in every objective and better in one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of the non-dominated points, in their order.

    Points that are equal in every objective are all kept. Quadratic in the number of points.
    """
    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]
