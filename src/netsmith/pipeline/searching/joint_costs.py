"""What archs with precisions should cost: blocks by two latency tables, corrected by measured files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random

import numpy as np

from netsmith.arch import Arch
from netsmith.devices.device import WEIGHT_BYTES, Precision
from netsmith.errors import BudgetError
from netsmith.nn.count import count_block
from netsmith.plan import Block
from netsmith.search.joint import LEAST_USE
from netsmith.spaces.joint import JointSpace
from netsmith.trial import Trial

BlockMs = Mapping[Precision, Callable[[Block], float]]
# How far a factor of what the tables say may be off before anything is measured, and what a file that was
# measured leaves unexplained.
_DOUBT, _NOISE = 0.3, 0.02


class JointCosts:
    """Figures of the archs of ``space``, and how much of ``limits`` they use up.

    ``block_ms`` gives the milliseconds that a block adds in a precision, ``constant_ms`` those of a network
    without blocks. A file takes what its blocks take, and something for each change of precision between
    them: :meth:`learn` finds that from files that were measured.
    """

    def __init__(
        self, space: JointSpace, block_ms: BlockMs, constant_ms: float, limits: Mapping[str, float]
    ) -> None:
        self._space, self._block_ms, self._constant = space, block_ms, constant_ms
        self._limits = dict(limits)
        self._known: dict[tuple[Block, Precision], dict[str, float]] = {}
        self._factors = np.array([0.0, 1.0, 0.0])  # of a constant, the tables' sum, a change of precision
        self._unit = 1.0
        self._overhead = 0.0

    def figures(self, arch: Arch) -> dict[str, float]:
        """Return the counts of an arch, the predicted size of its file and its predicted latency."""
        told = self._told(arch)
        macs, params, size, activations = (
            f(each[name] for each in told)
            for f, name in ((sum, "macs"), (sum, "params"), (sum, "size_bytes"), (max, "activation_bytes"))
        )
        return {
            "macs": macs,
            "params": params,
            "size_bytes": size + self._overhead,
            "activation_bytes": activations,
            "latency_ms_predicted": float(self._terms(arch) @ self._factors),
        }

    def share(self, arch: Arch) -> float:
        """Return the greatest share of a limit that the arch should use up."""
        found = self.figures(arch)
        found["latency_ms"] = found["latency_ms_predicted"]
        return max((found[n] / limit for n, limit in self._limits.items() if n in found), default=0.0)

    def draw(self, rng: Random) -> Arch:
        """Draw an arch within the limits that uses them up as far as it can.

        Decisions of an arch that was drawn anywhere are changed, in random order. Raises
        :class:`BudgetError` where none is within the limits.
        """
        arch = self._space.sample(rng)
        order = list(range(len(arch.choices)))
        rng.shuffle(order)
        for place in order:
            if self.share(arch) <= 1:
                break
            arch = min(self._others(arch, place), key=self.share)
        if self.share(arch) > 1:
            raise BudgetError(
                f"no arch of space '{self._space.id}' should keep the limits at any precision; the least "
                f"found uses {self.share(arch):.3g} times as much"
            )
        for place in order:
            if not self._limits or self.share(arch) >= LEAST_USE:
                break
            arch = max((a for a in self._others(arch, place) if self.share(a) <= 1), key=self.share)
        return arch

    def learn(self, trials: Sequence[Trial]) -> None:
        """Fit the factors to measured latencies, by least squares of relative errors, and the size.

        Each factor is expected at what the tables say, so that a few files move it only as far as they tell.
        """
        measured = np.array([trial.figures["latency_ms"] for trial in trials])
        sums = [sum(each["ms"] for each in self._told(trial.arch)) + self._constant for trial in trials]
        self._unit = float(np.mean(sums))
        terms = np.array([self._terms(trial.arch) for trial in trials]) / measured[:, None]
        prior = np.array([0.0, 1.0, 0.0])
        weight = _NOISE / _DOUBT
        rows = np.vstack([terms, weight * np.eye(3)])
        aims = np.concatenate([np.ones(len(trials)), weight * prior])
        self._factors = np.linalg.lstsq(rows, aims)[0]
        self._overhead += float(
            np.mean([t.figures["size_bytes"] - self.figures(t.arch)["size_bytes"] for t in trials])
        )

    def _terms(self, arch: Arch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """What the latency is a sum of, in milliseconds, but for the factors."""
        floating = self._space.floating(arch)
        blocks = self._space.plan(arch).blocks
        runs = [place in floating for place, block in enumerate(blocks) if block.op != "skip"]
        changes = sum(before != after for before, after in pairwise(runs))
        whole = sum(each["ms"] for each in self._told(arch)) + self._constant
        return np.array([self._unit, whole, self._unit * changes])

    def _told(self, arch: Arch) -> list[dict[str, float]]:
        floating = self._space.floating(arch)
        return [
            self._of(block, "float32" if place in floating else "int8")
            for place, block in enumerate(self._space.plan(arch).blocks)
        ]

    def _of(self, block: Block, precision: Precision) -> dict[str, float]:
        if (block, precision) not in self._known:
            counts, width = count_block(block), WEIGHT_BYTES[precision]
            self._known[block, precision] = {
                "ms": self._block_ms[precision](block),
                "macs": float(counts.macs),
                "params": float(counts.params),
                "size_bytes": float(counts.params * width),
                "activation_bytes": float(counts.peak_activation_bytes * width // WEIGHT_BYTES["float32"]),
            }
        return self._known[block, precision]

    def _others(self, arch: Arch, place: int) -> list[Arch]:
        """The arch with every option of one decision, its own first."""
        first = arch.choices[place]
        options = sorted(self._space.options[place], key=lambda option: option != first)
        return [Arch(arch.space, (*arch.choices[:place], o, *arch.choices[place + 1 :])) for o in options]
