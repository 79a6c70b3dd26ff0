"""The tree of ``If`` is the best that there is, by trying all."""

from __future__ import annotations

from itertools import compress, product

import pytest

from netsmith.export.huffman import ifs_before


def least_ifs(weights: tuple[float, ...]) -> float:
    """The least that images pass in all, by every way to tell them apart."""
    if len(weights) == 1:
        return 0.0
    sides = product((True, False), repeat=len(weights) - 1)  # the first is always on the left
    parted = [
        [tuple(compress(weights, kept)), tuple(compress(weights, [not one for one in kept]))]
        for kept in ((True, *others) for others in sides)
    ]
    return sum(weights) + min(least_ifs(left) + least_ifs(right) for left, right in parted if right)


@pytest.mark.parametrize("paths", [0, 1, 2, 3, 5, 6])
def test_as_few_ifs_as_can_be_lead_to_common_paths(paths: int) -> None:
    weights = tuple(1 / (place + 1) for place in range(paths + 1))
    taken = sum(weight * before for weight, before in zip(weights, ifs_before(paths), strict=True))
    assert taken == pytest.approx(least_ifs(weights))
