"""The 8x8 handwritten digits that scikit-learn carries: 1,797 grey images of ten classes, no download."""

from __future__ import annotations

import numpy as np

from netsmith.data.decode import ArrayPictures
from netsmith.data.sources.part import Part, Source


def read_digits() -> Source:
    """Read the embedded digits; their 17 grey levels are spread over 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    names = tuple(str(digit) for digit in range(10))
    return Source(Part(ArrayPictures(images, "digits"), digits.target.astype(np.int64), names))
