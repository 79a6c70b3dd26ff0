"""What images take in a file that routes them: each path timed by an image that takes it, and weighed.

The time of an image follows from its path, and not from its pixels. One image of each path is therefore
timed, through the same measurement as everything else, and a path counts as often as images take it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from netsmith.arch import Arch
from netsmith.data import Images
from netsmith.devices.device import Array
from netsmith.devices.measure import Latency

MOST_TIMED = 32


@dataclass(frozen=True, slots=True)
class PathTime:
    """A path that ``images`` images take: its latency where it was timed, and what was predicted, in ms."""

    arch: Arch
    images: int
    predicted_ms: float
    latency: Latency | None = None


@dataclass(frozen=True)
class PathTimes:
    """The paths of some images, those that most take first. At least one of them was timed.

    What was not timed takes what is predicted, times what the timed ones take over their predictions.
    """

    paths: tuple[PathTime, ...]

    @property
    def mean_ms(self) -> float:
        """The mean over images."""
        return self._mean(lambda latency: latency.median_ms)

    @property
    def error_ms(self) -> float:
        """The standard error of the mean: by so much other images of the same kind take more or less."""
        mean, images = self.mean_ms, self.images
        squares = sum(path.images * (self.of(path) - mean) ** 2 for path in self.paths)
        return math.sqrt(squares / max(1, images - 1) / images)

    @property
    def predicted_ms(self) -> float:
        """The mean of what was predicted, over images."""
        return sum(p.images * p.predicted_ms for p in self.paths) / self.images

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(path.images for path in self.paths)

    @property
    def timed_share(self) -> float:
        """The share of images whose path was timed, 0..1."""
        return sum(path.images for path in self.paths if path.latency is not None) / self.images

    @property
    def wide(self) -> bool:
        """Whether an interval of the timed paths stayed wide."""
        return any(path.latency.wide for path in self.paths if path.latency is not None)

    def of(self, path: PathTime) -> float:
        """Return what an image on ``path`` takes."""
        return path.predicted_ms * self._factor if path.latency is None else path.latency.median_ms

    def quantile_ms(self, q: float) -> float:
        """Return the latency that the share ``q`` (0..1) of images does not exceed."""
        ordered = sorted((self.of(path), path.images) for path in self.paths)
        reached = np.cumsum([images for _, images in ordered]) >= q * self.images - 1e-9
        return ordered[int(np.argmax(reached))][0]

    def spread(self) -> dict[str, Any]:
        """Return the spread of the mean as it stands in ``result.json``: the paths' own, weighed."""
        timed = [path.latency for path in self.paths if path.latency is not None]
        return {
            "low": self._mean(lambda latency: latency.low_ms),
            "high": self._mean(lambda latency: latency.quantile_ms(0.9)),
            "interval": [
                self._mean(lambda latency: latency.interval_ms[0]),
                self._mean(lambda latency: latency.interval_ms[1]),
            ],
            "rounds": min(latency.rounds for latency in timed),
            "wide": self.wide,
        }

    @property
    def _factor(self) -> float:
        timed = [path for path in self.paths if path.latency is not None]
        measured = sum(path.images * path.latency.median_ms for path in timed if path.latency is not None)
        return measured / sum(path.images * path.predicted_ms for path in timed)

    def _mean(self, figure: Callable[[Latency], float]) -> float:
        """The mean over images of a figure of each path's latency."""
        total = sum(
            path.images * (path.predicted_ms * self._factor if path.latency is None else figure(path.latency))
            for path in self.paths
        )
        return float(total / self.images)


def untimed(archs: Sequence[Arch], predicted: Mapping[Arch, float]) -> tuple[PathTime, ...]:
    """Return the paths of images, those that most take first, none of them timed yet."""
    ordered = sorted(Counter(archs).items(), key=lambda item: (-item[1], item[0].choices))
    return tuple(PathTime(arch, images, predicted[arch]) for arch, images in ordered)


def to_time(paths: Sequence[PathTime], archs: Sequence[Arch], images: Images) -> list[Array]:
    """Return an image, (1, C, H, W), of each of the first of ``paths``, which are to be timed.

    ``archs`` are the paths of ``images``, in their order.
    """
    first = dict(reversed(list(zip(archs, range(len(archs)), strict=True))))
    places = torch.tensor([first[path.arch] for path in paths[:MOST_TIMED]])
    return list(images.fetch(places).cpu().numpy()[:, None])


def timed(paths: Sequence[PathTime], latencies: Sequence[Latency]) -> PathTimes:
    """Return the paths with the latencies of the first of them."""
    known = [*latencies, *[None] * (len(paths) - len(latencies))]
    return PathTimes(
        tuple(
            PathTime(path.arch, path.images, path.predicted_ms, latency)
            for path, latency in zip(paths, known, strict=True)
        )
    )


def pooled(first: PathTimes, second: PathTimes) -> PathTimes:
    """Return the times of the same paths by the samples of both."""
    latencies: list[Latency] = [
        a.latency.pooled(b.latency)
        for a, b in zip(first.paths, second.paths, strict=True)
        if a.latency is not None and b.latency is not None
    ]
    return timed(first.paths, latencies)
