"""Known latencies are found again through noise, drift and outliers."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from netsmith.devices.measure import Latency, measure
from netsmith.errors import DeviceError


class _Machine:
    """A clock that passes move, slowed by ``drift`` of the time and by noise of each pass."""

    def __init__(self, noise: float = 0.0, drift: float = 0.0, seed: int = 0) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self._noise, self._drift = noise, drift
        self._random = np.random.default_rng(seed)

    def clock(self) -> int:
        return int(self.now)

    def run(self, name: str, cost_ms: float):
        def run() -> np.ndarray:
            slow = 1 + self._drift * (1 + np.sin(self.now / 3e8))
            if self._noise:
                slow *= np.exp(self._random.normal(0, self._noise))
                slow *= 20 if self._random.random() < 0.05 else 1
            self.now += cost_ms * 1e6 * slow
            self.order.append(name)
            return np.zeros((1, 2), np.float32)

        return run


class _Slowed(_Machine):
    """A machine that is slowed every other ``every`` passes (always, where 0), each run by its own factor."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every

    def run(self, name: str, cost_ms: float, factor: float = 1.0):
        def run() -> np.ndarray:
            slowed = not self._every or len(self.order) // self._every % 2 == 0
            self.now += cost_ms * 1e6 * (factor if slowed else 1.0)
            self.order.append(name)
            return np.zeros((1, 2), np.float32)

        return run


def test_constant_passes_are_measured_exactly_and_once_narrow_no_longer() -> None:
    machine = _Machine()
    result = measure({"a": machine.run("a", 1.0), "b": machine.run("b", 2.5)}, clock=machine.clock)
    assert [round(result[name].median_ms, 6) for name in "ab"] == [1.0, 2.5]
    assert result["a"].interval_ms == (1.0, 1.0)
    assert result["a"].rounds == 20
    assert not result["a"].wide


def test_runs_take_turns_with_the_reference_beside_each() -> None:
    machine = _Machine()
    runs = {name: machine.run(name, 1.0) for name in "ab"}
    measure(runs, reference=machine.run("r", 0.1), clock=machine.clock, least_rounds=3)
    turns = [name for i, name in enumerate(machine.order) if i == 0 or machine.order[i - 1] != name]
    assert "".join(turns).endswith("arbr" * 3)


def test_drift_divides_out() -> None:
    machine = _Machine(drift=1.0)
    runs = {"a": machine.run("a", 1.0), "b": machine.run("b", 2.0)}
    result = measure(
        runs,
        reference=machine.run("r", 0.5),
        reference_ms=0.5,
        clock=machine.clock,
        least_rounds=200,
        limit_s=60,
    )
    assert result["a"].median_ms == pytest.approx(1.0, rel=0.01)
    assert result["b"].median_ms == pytest.approx(2.0, rel=0.01)
    assert np.median(result["a"].samples_ms) > 1.3


def test_what_slows_networks_unequally_is_waited_out() -> None:
    machine = _Slowed(every=700)
    result = measure({"a": machine.run("a", 1.0, 1.25)}, reference=machine.run("r", 0.1, 1.4),
                     reference_ms=0.1, clock=machine.clock)["a"]  # fmt: skip
    assert max(result.drift) == pytest.approx(1.4), "it was slowed at times"
    assert result.median_ms == pytest.approx(1.0)
    assert result.rounds == 20 < len(result.samples_ms)
    assert not result.wide


def test_where_it_never_ends_the_drift_divides_out_and_the_figure_is_marked() -> None:
    machine = _Slowed(every=0)
    runs = {"a": machine.run("a", 1.0, 1.4)}
    result = measure(runs, reference=machine.run("r", 0.1, 1.4), reference_ms=0.1, clock=machine.clock,
                     most_rounds=50)["a"]  # fmt: skip
    assert result.median_ms == pytest.approx(1.0)
    assert result.disturbed
    assert result.wide
    assert result.rounds == 50


def test_what_is_known_early_is_timed_as_long_as_the_others() -> None:
    still, noisy = _Machine(), _Machine(noise=0.1)
    runs = {"a": still.run("a", 1.0), "b": noisy.run("b", 1.0)}
    result = measure(runs, clock=lambda: int(still.now + noisy.now))
    assert result["a"].rounds == result["b"].rounds > 50


def test_noise_takes_more_rounds_until_the_interval_is_narrow() -> None:
    machine = _Machine(noise=0.1)
    (latency,) = measure({"a": machine.run("a", 1.0)}, clock=machine.clock, width=0.01).values()
    assert latency.rounds > 50
    assert latency.spread <= 0.01
    low, high = latency.interval_ms
    assert low <= latency.median_ms <= high
    least_of_five = np.exp(-0.1 * 1.16)  # the mean least of five standard normals is -1.16
    assert latency.median_ms == pytest.approx(least_of_five, rel=0.03)


def test_what_stays_wide_is_marked() -> None:
    machine = _Machine(noise=0.5)
    runs = {"a": machine.run("a", 1.0)}
    assert measure(runs, clock=machine.clock, width=0.001, most_rounds=30)["a"].wide
    limited = measure(runs, clock=machine.clock, width=0.0001, limit_s=0.0)["a"]
    assert limited.wide
    assert limited.rounds == 3


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(500):
        samples = tuple(rng.lognormal(0, 0.5, 40))
        low, high = Latency(samples, (1.0,) * 40, False).interval_ms
        inside += low <= 1.0 <= high
    assert inside >= 0.94 * 500


def test_short_passes_are_timed_several_together() -> None:
    machine = _Machine()
    result = measure({"a": machine.run("a", 0.0005)}, clock=machine.clock, least_rounds=3)
    assert len(machine.order) > 3 * 40
    assert result["a"].median_ms == pytest.approx(0.0005)


def test_garbage_is_not_collected_while_timing() -> None:
    states = []
    machine = _Machine()

    def run() -> np.ndarray:
        states.append(gc.isenabled())
        machine.now += 1e6
        return np.zeros(1)

    measure({"a": run}, clock=machine.clock, least_rounds=3)
    assert not any(states)
    assert gc.isenabled()


def test_latency_survives_json() -> None:
    latency = Latency((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), wide=True)
    assert Latency.from_dict(latency.to_dict()) == latency
    assert latency.median_ms == 2.0
    with pytest.raises(DeviceError, match="not a measured latency"):
        Latency.from_dict({"samples_ms": [1.0]})
    with pytest.raises(DeviceError, match="at least one sample"):
        Latency((), (), False)


def test_two_measurements_of_one_network_are_pooled() -> None:
    first, second = (
        Latency((1.0, 1.0, 3.0), (1.0,) * 3, wide=False),
        Latency((2.0, 2.0), (1.0,) * 2, wide=True),
    )
    both = first.pooled(second)
    assert both.median_ms == 2.0
    assert both.rounds == 5
    assert both.wide


def test_nothing_to_time_and_a_clock_that_stands_are_errors() -> None:
    with pytest.raises(DeviceError, match="no runs"):
        measure({})
    with pytest.raises(DeviceError, match="did not move"):
        measure({"a": lambda: np.zeros(1)}, clock=lambda: 0)
