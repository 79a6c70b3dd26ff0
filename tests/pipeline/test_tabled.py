"""A device that is not at hand: designs by its table, which say that nothing was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.errors import DeviceError, SettingsError, TableError
from netsmith.journal import read
from netsmith.latency.files import read_model, write_model
from netsmith.latency.model import LatencyModel
from netsmith.latency.table import FREE_OPERATIONS
from netsmith.nn.network import Network
from netsmith.pipeline.answer import Design
from netsmith.pipeline.design import run
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.tabled import TableDevice
from netsmith.spaces.mbconv import Stage, mbconv

Make = Callable[..., Settings]
PIXEL = Path(__file__).parents[3] / "shared" / "data" / "luts" / "proxylessnas_mobile_trim.yaml"


@pytest.fixture(scope="module")
def table(finished: Design, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that a design on the fake device built, without what other tests measured of the device."""
    (profiled,) = (r for r in read(finished.folder / "journal") if r["event"] == "profile")
    path, model = tmp_path_factory.mktemp("tables") / "fake.json", LatencyModel.from_dict(profiled["model"])
    blocks = mbconv((1, 8, 8), 4, width=0.5, stages=[Stage(16, 2, 1), Stage(24, 2, 2)]).blocks
    rows = {block.key: model.table.row(block) for block in blocks if block.op not in FREE_OPERATIONS}
    write_model(path, replace(model, table=replace(model.table, rows=rows)))
    return path


def device_of(table: Path) -> TableDevice:
    device = parse(f"table:{table}")
    assert isinstance(device, TableDevice)
    return device


def test_a_design_by_the_table_is_that_of_its_device(
    small: Make, finished: Design, table: Path, tmp_path: Path
) -> None:
    design = run(small(device=f"table:{table}"), tmp_path)
    assert design.arch == finished.arch
    assert design.accuracy == finished.accuracy
    assert design.budget_met
    assert design.latency_ms == pytest.approx(finished.latency_ms, rel=0.02)
    assert design.latency_ms == pytest.approx(design.result["latency_ms_predicted"], rel=1e-5)
    assert design.result["device_fingerprint"] == finished.result["device_fingerprint"]
    assert finished.result["latency_is"] == "measured"


def test_archs_cannot_be_measured_one_by_one(small: Make, table: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a table cannot"):
        run(small(device=f"table:{table}", judge="training"), tmp_path)


def test_it_says_that_nothing_was_measured(small: Make, table: Path, tmp_path: Path) -> None:
    design = run(small(device=f"table:{table}", epochs=1, baselines="quick"), tmp_path)
    assert design.result["latency_is"] == "looked up"
    assert any("nothing is measured on this device" in text for text in design.result["warnings"])
    assert any("lacks the blocks of MobileNetV2" in text for text in design.result["warnings"])
    assert set(design.result["baselines"]) == {"random"}
    page = (tmp_path / "report.html").read_text()
    assert "Latency, looked up" in page
    assert "Latency, measured" not in page
    assert "looked up latency of one image" in page
    assert "looked up in the same table" in page
    assert "measured on the same device" not in page


def test_the_width_is_one_that_the_table_has(small: Make, table: Path, tmp_path: Path) -> None:
    design = run(small(device=f"table:{table}", epochs=1, width=None), tmp_path)
    assert design.result["width"] == 0.5
    with pytest.raises(TableError, match=r"is of another space.*it lacks"):
        run(small(device=f"table:{table}", width=0.75), tmp_path / "other")


def test_another_space_is_refused_and_the_difference_named(table: Path) -> None:
    stages = [Stage(16, 2, 1), Stage(24, 2, 2)]
    with pytest.raises(TableError) as caught:
        device_of(table).model_of(mbconv((3, 16, 16), 7, width=0.5, stages=stages))
    assert "it is for images 1x8x8 and not 3x16x16" in str(caught.value)
    assert "it is for labels 4 and not 7" in str(caught.value)


def test_fewer_labels_cost_what_the_tables_do(table: Path) -> None:
    stages = [Stage(16, 2, 1), Stage(24, 2, 2)]
    three, four = (mbconv((1, 8, 8), n, width=0.5, stages=stages) for n in (3, 4))
    device = device_of(table)
    (few, edges, _), (more, same, _) = device.model_of(three).costs(three), device.model_of(four).costs(four)
    assert few == pytest.approx(more, rel=0.01)
    assert edges == same


def test_what_it_knows_is_looked_up_and_nothing_else(table: Path) -> None:
    device = device_of(table)
    space = mbconv((1, 8, 8), 4, width=0.5, stages=[Stage(16, 2, 1), Stage(24, 2, 2)])
    plan = space.plan(space.arch(tuple(0 for _ in space.edges)))
    bench = Bench(device, reference_ms=1.0)
    model = device.export(Network(plan), plan.input_shape)
    assert bench.time_files({"a": model})["a"].median_ms == read_model(table).predict(plan)
    with pytest.raises(DeviceError, match="one image a pass"):
        bench.time_files({"a": model}, batch_size=2)
    with pytest.raises(DeviceError, match="nothing can be timed"):
        device.clock()
    foreign = parse("fake").export(Network(plan), plan.input_shape)
    with pytest.raises(DeviceError, match="does not say what blocks"):
        bench.time_files({"a": foreign})


@pytest.mark.skipif(not PIXEL.exists(), reason="the published tables are not at ../shared/data/luts")
def test_a_published_table_serves_the_published_space() -> None:
    space = mbconv((3, 224, 224), 10)
    constant, edges, _ = device_of(PIXEL).model_of(space).costs(space)
    fastest, slowest = (constant + sum(map(choose, edges)) for choose in (min, max))
    assert 25 < fastest < 35, "milliseconds on a Pixel 1"
    assert 150 < slowest < 250


def test_a_table_that_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(TableError, match="there is no latency table"):
        parse("table:nowhere.json")
