"""Budgets that cannot be kept, that are ample, that predictions miss, and that are not of time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import onnx
import pytest

from netsmith.budget import Budget
from netsmith.devices.bench import Bench
from netsmith.devices.measure import Latency
from netsmith.errors import BudgetError
from netsmith.journal import read
from netsmith.nn.count import count_plan
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.searching.reach import extremes, figures, fit_width, shallow, within_activations
from netsmith.pipeline.settings import Settings
from netsmith.plan import Plan
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.testing import FakeDevice
from netsmith.trial import Trial

Make = Callable[..., Settings]


def space_of(width: float) -> ChainSpace:
    return mbconv((1, 8, 8), 4, width=width, stages=[Stage(16, 2, 1), Stage(24, 2, 2)])


def measured(design: Design) -> list[Trial]:
    records = read(design.folder / "journal")
    return [Trial.from_dict(r["trial"]) for r in records if r.get("stage") == "measure"]


def test_a_budget_below_the_reach_names_the_least_before_anything_is_profiled(
    small: Make, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError) as caught:
        run(small(latency=0.001, width=None), tmp_path)
    least = figures(space_of(0.1).plan(extremes(space_of(0.1))[0]), Bench(FakeDevice()))["latency_ms"]
    assert f"latency_ms {least:.6g} over the budget's 0.001" in str(caught.value)
    assert f"at least latency_ms {least * 1.05:.3g}" in str(caught.value)
    assert {r["event"] for r in read(tmp_path / "journal")} == {"started", "data", "bench"}


def test_what_the_message_asks_for_is_enough() -> None:
    bench = Bench(FakeDevice())
    least = figures(space_of(0.1).plan(extremes(space_of(0.1))[0]), bench)["latency_ms"]
    budget = Budget(latency_ms=least * 1.05)
    assert fit_width(space_of, budget, budget.limits(), bench).width == 0.1


def test_the_space_is_widened_until_the_budget_is_worth_using() -> None:
    bench = Bench(FakeDevice())
    limits = [Budget(latency_ms=latency_ms) for latency_ms in (0.04, 0.08, 0.2)]
    reaches = [fit_width(space_of, limit, limit.limits(), bench) for limit in limits]
    widths = [reach.width for reach in reaches]
    assert widths == sorted(set(widths))
    for reach, limit in zip(reaches, limits, strict=True):
        assert reach.least["latency_ms"] < limit.limits()["latency_ms"] < reach.most["latency_ms"]


def test_the_space_is_no_wider_than_the_effort_can_train() -> None:
    bench, budget = Bench(FakeDevice()), Budget(latency_ms=0.2)
    free = fit_width(space_of, budget, budget.limits(), bench)
    macs = figures(space_of(free.width).plan(shallow(space_of(free.width))), bench)["macs"]
    held = fit_width(space_of, budget, {**budget.limits(), "macs": macs / 4}, bench)
    assert held.width < free.width
    assert figures(space_of(held.width).plan(shallow(space_of(held.width))), bench)["macs"] < macs / 4


def test_a_search_aims_at_what_its_effort_can_train(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netsmith.pipeline.work.trainable_macs", lambda images, effort: 120e3)
    design = run(small(latency=5.0, epochs=None), tmp_path)
    assert design.budget_met
    assert design.result["macs"] <= 120e3
    assert any("allows larger networks" in text for text in design.result["warnings"])
    (aim,) = (r for r in read(tmp_path / "journal") if r["event"] == "aim")
    assert aim["figure"] == "macs"


@pytest.mark.parametrize(
    ("limit", "figure", "value"),
    [("macs", "macs", 80e3), ("params", "params", 3000.0), ("size", "size_bytes", 30e3)],
)
def test_a_budget_without_a_latency_is_kept(
    small: Make, tmp_path: Path, limit: str, figure: str, value: float
) -> None:
    design = run(small(latency=None, epochs=1, **{limit: value}), tmp_path)
    assert design.budget_met
    assert design.result[figure] <= value
    assert design.result["latency_budget_ms"] is None
    assert design.result["budget"] == {figure: value}
    assert design.latency_ms > 0


def every_plan(space: ChainSpace) -> Iterator[Plan]:
    return (space.plan(space.arch(choices)) for choices in product(*(range(len(o)) for o in space.edges)))


def test_a_limit_of_activations_leaves_the_archs_that_keep_it() -> None:
    space = space_of(0.5)
    needs = sorted(count_plan(plan).peak_activation_bytes for plan in every_plan(space))
    limit = needs[len(needs) // 3]
    kept = within_activations(space, limit, "float32")
    found = sorted(count_plan(plan).peak_activation_bytes for plan in every_plan(kept))
    assert found == [need for need in needs if need <= limit]
    assert within_activations(space, limit / 4, "int8") == kept, "a byte each in place of four"
    assert within_activations(space, needs[-1], "float32") == space


def test_activations_below_the_least_are_an_error_that_names_it() -> None:
    space = space_of(0.5)
    least = min(count_plan(plan).peak_activation_bytes for plan in every_plan(space))
    with pytest.raises(BudgetError, match=f"some block needs {least}. Ask for at least that"):
        within_activations(space, least - 1, "float32")
    assert within_activations(space, least, "float32").count() >= 1


def test_a_design_keeps_a_limit_of_activations(small: Make, tmp_path: Path) -> None:
    free = run(small(latency=5.0, width=None, epochs=1), tmp_path / "free").result
    limit = free["activation_bytes"] // 2
    design = run(small(latency=5.0, width=None, epochs=1, activations=limit), tmp_path / "held")
    assert design.budget_met
    assert design.result["activation_bytes"] <= limit
    assert design.result["budget"]["activation_bytes"] == limit
    assert design.result["width"] < free["width"]
    with pytest.raises(BudgetError, match="Ask for at least that"):
        run(small(activations=64), tmp_path / "none")


def test_a_memory_that_cannot_be_kept_is_said(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netsmith.pipeline.searching.choose.ROUNDS", 2)
    design = run(small(memory=1000.0, epochs=1), tmp_path)
    assert not design.budget_met
    assert any("peak_bytes" in reason for reason in design.result["reasons"])


def slow_on_pixels(monkeypatch: pytest.MonkeyPatch, factor: float, surcharge_ms: float) -> None:
    """Make whole networks, which alone take bytes, slower than they were when the table was checked."""
    monkeypatch.setattr("netsmith.latency.measuring._STALE", math.inf)
    cost_ms = FakeDevice.cost_ms

    def slower(self: FakeDevice, model: bytes) -> float:
        kind = onnx.load_model_from_string(model).graph.input[0].type.tensor_type.elem_type
        cost = cost_ms(self, model)
        return cost * factor + surcharge_ms if kind == onnx.TensorProto.UINT8 else cost

    monkeypatch.setattr(FakeDevice, "cost_ms", slower)


def shares(trials: list[Trial], budget: Mapping[str, float]) -> list[float]:
    return [trial.figures["latency_ms"] / budget["latency_ms"] for trial in trials]


def test_what_misses_the_budget_is_not_chosen_and_the_search_goes_on_tighter(
    small: Make, finished: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is of a time when the device was faster."""
    slow_on_pixels(monkeypatch, 1.0, 0.022)
    design = run(small(), tmp_path)
    trials = measured(design)
    over = [trial for trial in trials if trial.figures["latency_ms"] > 0.06]
    assert over
    assert all("latency_ms" in trial.reason for trial in over)
    assert len(trials) > 5, "the first five were all over the budget, and others were measured after them"
    assert design.budget_met
    assert design.latency_ms <= 0.06
    assert design.arch not in [trial.arch for trial in over]


def test_where_nothing_keeps_the_budget_the_answer_says_so(
    small: Make, finished: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_on_pixels(monkeypatch, 1.0, 1.0)
    design = run(small(epochs=1), tmp_path)
    assert not design.budget_met
    assert not [trial for trial in measured(design) if trial.valid]
    closest = min(shares(measured(design), design.result["budget"]))
    assert design.latency_ms / 0.06 == pytest.approx(closest, rel=1e-3), "the closest is handed over"
    reasons = json.loads((tmp_path / "result.json").read_text())["reasons"]
    assert any("no arch that was measured keeps the budget" in reason for reason in reasons)
    assert any("latency_ms" in reason for reason in reasons)
    page = (tmp_path / "report.html").read_text()
    assert "no arch that was measured keeps the budget" in page


def test_what_seems_over_the_budget_is_measured_again_before_another_is_trained(
    small: Make, finished: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_files, verified = Bench.time_files, []

    def first_slow(self: Bench, files: Mapping[str, bytes], **how: Any) -> dict[str, Latency]:
        timed = time_files(self, files, **how)
        if list(files) != ["design"]:
            return timed
        real = timed["design"]
        over = Latency((0.0605,) * real.rounds, (1.0,) * real.rounds, wide=False)
        verified.append(real if verified else over)
        return {"design": verified[-1]}

    monkeypatch.setattr(Bench, "time_files", first_slow)
    design = run(small(), tmp_path)
    assert design.arch == finished.arch
    assert design.budget_met
    assert not design.result["warnings"]
    (record,) = (r for r in read(tmp_path / "journal") if r["event"] == "verified")
    assert Latency.from_dict(record["latency"]) == verified[0].pooled(verified[1])
