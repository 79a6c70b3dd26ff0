"""The one way that latencies are taken: warm, interleaved, corrected for drift, until they are sure.

A shared machine is slowed by its other work, for microseconds or for minutes. Runs that will be
compared are therefore timed in turn (A B C A B C ...), and a reference network of constant cost is
timed beside each, which tells what the machine was doing. Where it is slowed, by a neighbour on the other
thread of a core say, it does not slow all networks alike: one of 2.4 MB took 1.25 times as long while the
reference took 1.4 times, so that dividing by the reference alone was 12 % off. Samples are therefore taken
until enough of them are undisturbed, and those alone count; what drift is left in them divides out. Over
twenty sessions on such a machine medians of two small networks so ranged over 4 and 7 %, and those of all
samples over 8 and 19 %. (Of a network of 9 MB, 21 % either way: the reference does not see what a neighbour
does to the shared cache.)

One sample is the least of five passes in a row, since what interrupts a pass is not the network's. Medians
and their intervals come from order statistics: no distribution is assumed, no outlier counts for more than
one.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netsmith.devices.device import Run
from netsmith.errors import DeviceError

LOW_QUANTILE = 0.1
# How many times as slow as beside the calmest samples the reference may be beside one that counts, and than
# usual beside the calmest, before the machine is called disturbed: its clock alone moves by up to 1.1.
CALM, DISTURBED = 1.08, 1.2
_CONFIDENCE_Z = 1.96  # of the 95 % interval
_LEAST_TIMING_NS = 20_000  # shorter passes are timed several together
_BURST = 5  # timings in a row, whose least is one sample


@dataclass(frozen=True, slots=True)
class Latency:
    """What was measured of one network, in milliseconds a pass.

    ``samples_ms`` is as timed; ``drift`` says, sample by sample, how many times slower than at its
    usual speed the machine was, by the reference network. Figures are of samples over drift, of those
    taken while the machine was calm, or about as calm as it became.
    """

    samples_ms: tuple[float, ...]
    drift: tuple[float, ...]
    wide: bool
    """Whether the interval was wider than asked, or the machine not calm, when the time limit was reached."""

    corrected_ms: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.samples_ms or len(self.samples_ms) != len(self.drift) or min(self.drift) <= 0:
            raise DeviceError("a latency needs at least one sample, and a drift above 0 for each")
        if not all(map(math.isfinite, (*self.samples_ms, *self.drift))):
            raise DeviceError("samples and drift of a latency are finite numbers")
        most = CALM * self._calmest
        corrected = sorted(s / d for s, d in zip(self.samples_ms, self.drift, strict=True) if d <= most)
        object.__setattr__(self, "corrected_ms", tuple(corrected))

    @property
    def _calmest(self) -> float:
        """The drift of the least disturbed samples."""
        return float(np.quantile(self.drift, LOW_QUANTILE))

    @property
    def disturbed(self) -> bool:
        """Whether the machine was hardly ever near its usual speed."""
        return self._calmest > DISTURBED

    @property
    def median_ms(self) -> float:
        """The middle of the corrected samples that count."""
        return self.quantile_ms(0.5)

    @property
    def low_ms(self) -> float:
        """The low quantile of the corrected samples: the latency when nothing disturbs."""
        return self.quantile_ms(LOW_QUANTILE)

    @property
    def rounds(self) -> int:
        """How many samples count."""
        return len(self.corrected_ms)

    @property
    def interval_ms(self) -> tuple[float, float]:
        """The 95 % confidence interval of the median, by order statistics."""
        low, high = _median_ranks(self.rounds)
        return self.corrected_ms[low], self.corrected_ms[high]

    @property
    def spread(self) -> float:
        """Half the width of the interval over the median: 0.01 is plus or minus 1 %."""
        low, high = self.interval_ms
        return (high - low) / 2 / self.median_ms if self.median_ms else 0.0

    def quantile_ms(self, q: float) -> float:
        """The quantile ``q`` (0..1) of the corrected samples."""
        return float(np.quantile(self.corrected_ms, q))

    def pooled(self, other: Latency) -> Latency:
        """Return the latency by the samples of both: of the same network, measured at two moments."""
        samples, drift = self.samples_ms + other.samples_ms, self.drift + other.drift
        return Latency(samples, drift, wide=self.wide or other.wide)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the raw samples as JSON-ready values."""
        return {
            "median_ms": self.median_ms,
            "low_ms": self.low_ms,
            "interval_ms": list(self.interval_ms),
            "spread": self.spread,
            "wide": self.wide,
            "samples_ms": [round(s, 7) for s in self.samples_ms],
            "drift": [round(d, 5) for d in self.drift],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Latency:
        """Read :meth:`to_dict`'s values. Raises :class:`DeviceError` where they are not a latency."""
        try:
            samples, drift = (tuple(map(float, data[key])) for key in ("samples_ms", "drift"))
            return cls(samples, drift, bool(data["wide"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceError(f"not a measured latency: {data!r:.200} ({error})") from None


def _median_ranks(count: int) -> tuple[int, int]:
    """Indices of the sorted samples between which the median lies with 95 % confidence."""
    half = _CONFIDENCE_Z * math.sqrt(count) / 2
    return max(0, math.floor(count / 2 - half) - 1), min(count - 1, math.ceil(count / 2 + half))


def measure(
    runs: Mapping[str, Run],
    *,
    reference: Run | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
    width: float = 0.01,
    least_rounds: int = 20,
    most_rounds: int = 1000,
    limit_s: float = 20.0,
    reference_ms: float | None = None,
) -> dict[str, Latency]:
    """Time every run in turn until each median is known to ``width``, relative.

    ``reference`` is timed before and after each sample; ``reference_ms`` is what it takes on the
    undisturbed machine (its own low quantile in this measurement, where not given), so that figures
    of different moments compare. All are timed until of each ``least_rounds`` samples were undisturbed and
    the interval is narrow: what is known earlier goes on, since runs compare only over the same moments.
    ``limit_s`` seconds or ``most_rounds`` end it too, and mark what is not narrow, but every run has three
    samples at the least. ``clock`` is :meth:`Device.clock`. Raises
    :class:`DeviceError` where there is nothing to time or a clock stands still.
    """
    if not runs:
        raise DeviceError("measure() was given no runs to time")
    stopwatch = _Stopwatch(clock, limit_s)
    taken = {name: _Taken() for name in runs}
    with _collection_off():
        inner = {name: stopwatch.warm_up(run) for name, run in runs.items()}
        inner_reference = stopwatch.warm_up(reference) if reference else 1
        for count in _rounds(stopwatch):
            before = stopwatch.sample(reference, inner_reference) if reference else 1.0
            for name, run in runs.items():
                sample = stopwatch.sample(run, inner[name])
                after = stopwatch.sample(reference, inner_reference) if reference else 1.0
                taken[name].add(sample, max(before, after))
                before = after
            usual = _usual(taken, reference_ms) if reference else 1.0
            timed = {name: taken[name].latency(usual, width) for name in runs}
            if count >= most_rounds or all(
                one.rounds >= least_rounds and not one.wide for one in timed.values()
            ):
                break
    return timed


def _rounds(stopwatch: _Stopwatch) -> Iterator[int]:
    """Count rounds from 1 until the time limit, three at least."""
    count = 0
    while count < 3 or not stopwatch.over():
        count += 1
        yield count


class _Taken:
    """The samples of one run so far, and what the reference took beside each, in ms."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self.beside: list[float] = []

    def add(self, sample: float, beside: float) -> None:
        self._samples.append(sample)
        self.beside.append(beside)

    def latency(self, usual: float, width: float) -> Latency:
        """What is known, given what the reference usually takes; wide where not known to ``width``."""
        latency = Latency(tuple(self._samples), tuple(b / usual for b in self.beside), wide=False)
        return replace(latency, wide=latency.disturbed or latency.spread > width)


def _usual(taken: Mapping[str, _Taken], reference_ms: float | None) -> float:
    """What the reference takes when the machine is not disturbed, in ms."""
    if reference_ms is not None:
        return reference_ms
    return float(np.quantile(np.concatenate([one.beside for one in taken.values()]), LOW_QUANTILE))


class _Stopwatch:
    """Times passes by a device's clock, against a limit on this machine's."""

    def __init__(self, clock: Callable[[], int], limit_s: float) -> None:
        self._clock = clock
        self._end = time.monotonic() + limit_s

    def over(self) -> bool:
        return time.monotonic() > self._end

    def warm_up(self, run: Run) -> int:
        """Run until warm, and return how many passes one timing needs to be well above the clock's grain."""
        run()
        least = min(self._time(run, 1) for _ in range(3))
        if least <= 0:
            least = self._time(run, 1000) // 1000
        if least <= 0:
            raise DeviceError("the device's clock did not move while a thousand passes ran")
        return max(1, math.ceil(_LEAST_TIMING_NS / least))

    def sample(self, run: Run, inner: int) -> float:
        """Return milliseconds a pass: the least of a short burst, after one pass that is not counted."""
        run()
        return min(self._time(run, inner) for _ in range(_BURST)) / inner / 1e6

    def _time(self, run: Run, passes: int) -> int:
        start = self._clock()
        for _ in range(passes):
            run()
        return self._clock() - start


@contextmanager
def _collection_off() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
