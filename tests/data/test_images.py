"""What an image set accepts."""

from __future__ import annotations

import pytest
import torch

from netsmith.data import ImageSet
from netsmith.errors import DataError

IMAGES = torch.arange(4 * 3 * 5 * 6).view(4, 3, 5, 6).to(torch.uint8)
LABELS = torch.tensor([0, 1, 1, 0])


def test_fetch_subset_and_stream() -> None:
    images = ImageSet(IMAGES, LABELS, ("a", "b"))
    assert len(images) == 4
    assert images.input_shape == (3, 5, 6)
    assert images.in_memory
    places = torch.tensor([3, 1])
    assert torch.equal(images.fetch(places), IMAGES[places])
    subset = images.subset(places)
    assert torch.equal(subset.images, IMAGES[places])
    assert subset.labels.tolist() == [0, 1]
    batches = list(images.stream([places, torch.tensor([0])]))
    assert [len(batch) for batch in batches] == [2, 1]
    assert torch.equal(batches[1], IMAGES[:1])


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (IMAGES.float(), LABELS, ("a", "b"), "must be uint8"),
        (IMAGES[0], LABELS, ("a", "b"), "must be uint8 of shape"),
        (IMAGES[:, :2], LABELS, ("a", "b"), "C = 1 or 3"),
        (IMAGES, LABELS[:3], ("a", "b"), "one an image"),
        (IMAGES, LABELS.int(), ("a", "b"), "int64"),
        (IMAGES, LABELS, ("a",), "from 0 to 0 for 1"),
        (IMAGES, LABELS - 1, ("a", "b"), "got -1 to 0"),
        (IMAGES, LABELS, ("a", "a"), "must differ"),
    ],
)
def test_checks(images: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSet(images, labels, names)
