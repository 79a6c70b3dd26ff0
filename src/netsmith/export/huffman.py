"""Which ``If`` lead an image to its path, so that common paths are behind few."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

Asked = int | tuple["Asked", "Asked"]
"""A path by its number, or the two sides that one ``If`` chooses between."""


def told_apart(paths: int) -> Asked:
    """Return how paths are told apart, from 0, the most common, to any other, whose number is ``paths``.

    By Huffman's tree (1952), where images are to be as one over the place of their path (Zipf).
    """
    waiting: list[tuple[float, int, Asked]] = [(1 / (place + 1), place, place) for place in range(paths + 1)]
    heapify(waiting)
    for number in range(paths + 1, 2 * paths + 1):
        (few, _, rare), (more, _, common) = heappop(waiting), heappop(waiting)
        heappush(waiting, (few + more, number, (common, rare)))
    return waiting[0][2]


def leaves(asked: Asked, before: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the numbers of paths from left to right, each with how many ``If`` are before it."""
    if isinstance(asked, int):
        yield asked, before
    else:
        for side in asked:
            yield from leaves(side, before + 1)


def ifs_before(paths: int) -> list[int]:
    """Return how many ``If`` an image passes to each of so many common paths, and last to any other."""
    return [before for _, before in sorted(leaves(told_apart(paths)))]
