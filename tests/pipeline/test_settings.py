"""Settings are one value, however they were given, and say what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.errors import SettingsError
from netsmith.pipeline.settings import Settings, merge, read_toml

values = st.fixed_dictionaries(
    {"data": st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)},
    optional={
        "device": st.sampled_from(["onnxruntime", "onnxruntime:threads=2"]),
        "latency": st.sampled_from(["0.2ms", 0.2, 2]),
        "size": st.sampled_from(["1MB", 1000000]),
        "budget": st.sampled_from(["quick", "standard", "thorough"]),
        "seed": st.integers(0, 2**31 - 1),
        "width": st.floats(0.01, 8.0) | st.integers(1, 8),
        "stages": st.lists(st.tuples(*[st.integers(1, 99)] * 3), min_size=1, max_size=4),
        "skip_bad": st.booleans(),
        "test": st.text(st.characters(exclude_categories=("Cs", "Cc"))),
        "epochs": st.integers(1, 999),
    },
)


@given(values)
def test_toml_brings_back_the_same_settings(given_values: dict[str, Any]) -> None:
    settings = Settings.from_mapping(given_values)
    assert Settings.from_mapping(tomllib.loads(settings.to_toml())) == settings


def test_a_file_and_options_join(tmp_path: Path) -> None:
    path = tmp_path / "design.toml"
    path.write_text('data = "digits"\nlatency = "0.2ms"\n[[stages]]\nwidth = 24\nblocks = 4\nstride = 2\n')
    (settings,) = merge(read_toml(path), {"seed": 3})
    assert settings == Settings("digits", latency="0.2ms", seed=3, stages=((24, 4, 2),))
    assert settings.limits().limits() == {"latency_ms": 0.2}


def test_several_devices_have_limits_of_their_own_or_one_for_all() -> None:
    names = ["onnxruntime", "openvino:threads=2,precision=int8"]
    given = {"data": "digits", "device": names, "latency": f"{names[1]}=2ms,{names[0]}=1ms", "size": "1MB"}
    first, second = merge({}, given)
    assert (first.device, first.latency, first.size) == (names[0], "1ms", "1MB")
    assert (second.device, second.latency, second.size) == (names[1], "2ms", "1MB")
    assert [s.latency for s in merge({}, {**given, "latency": "1ms"})] == ["1ms", "1ms"]
    assert len(merge({"device": ["fake"]}, {"data": "digits"})) == 1


@pytest.mark.parametrize(
    ("latency", "said"),
    [
        ("a=1ms", "once of each of a, b"),
        ("a=1ms,b=2ms,a=1ms", "once of each"),
        ("c=1ms", "one for each such as"),
        ("a=1ms,,b=2ms", "one for each such as"),
        ("a=1ms,b=2ms,", "one for each such as"),
    ],
)
def test_limits_that_are_not_one_of_each_device_are_errors(latency: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        merge({}, {"data": "digits", "device": ["a", "b"], "latency": latency})
    with pytest.raises(SettingsError, match="several in a list"):
        merge({}, {"data": "digits", "device": []})


def test_the_same_setting_in_both_places_is_an_error_even_where_they_agree() -> None:
    with pytest.raises(SettingsError, match="both in the configuration file and as options: data, seed"):
        merge({"data": "digits", "seed": 1, "budget": "quick"}, {"seed": 1, "data": "digits"})


@pytest.mark.parametrize(
    ("name", "meant"), [("latencey", "latency"), ("search_epoch", "search_epochs"), ("Device", "device")]
)
def test_an_unknown_name_tells_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"unknown setting '{name}'; did you mean '{meant}'\?; known: "):
        Settings.from_mapping({"data": "digits", name: 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": "slow"}, "budget is one of quick, standard, thorough; got 'slow'"),
        ({"weights": "share"}, r"did you mean 'shared'\?"),
        ({"strategy": 5}, "strategy is one of"),
        ({"space": ["mbconv"]}, "space is one of"),
        ({"epochs": 0}, "epochs is a whole number from 1 up"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"search_epochs": 1.5}, "search_epochs is a whole number"),
        ({"image_size": "32"}, "image_size is a whole number"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"seed": 2**31}, "seed is a whole number from 0"),
        ({"data": ""}, "data names the images"),
        ({"data": 5}, "data names the images"),
        ({"device": 5}, "device and test are text"),
        ({"test": 5}, "device and test are text"),
        ({"width": 0}, "above 0 and up to 8"),
        ({"width": "1"}, "above 0 and up to 8"),
        ({"width": True}, "above 0 and up to 8"),
        ({"width": float("nan")}, "above 0 and up to 8"),
        ({"skip_bad": "no"}, "skip_bad is true or false"),
        ({"teacher": 1}, "teacher is true or false"),
        ({"teacher": True}, "a design with a base"),
        ({"latency": "2MB"}, "cannot read '2MB' as latency_ms"),
        ({"latency": []}, "as latency_ms"),
        ({"latency": True}, "as latency_ms"),
        ({"stages": 5}, "stages is a list"),
        ({"stages": []}, "stages is a list"),
        ({"stages": [5]}, "in whole numbers; got 5"),
        ({"stages": ["abc"]}, "in whole numbers; got 'abc'"),
        ({"stages": [[24, 4]]}, "in whole numbers"),
        ({"stages": [[24, 4, True]]}, "in whole numbers"),
        ({"stages": [{"width": 24, "blocks": 4}]}, "in whole numbers"),
        ({"stages": [{"width": 24, "blocks": 4, "stride": 2, "x": 1}]}, "in whole numbers"),
    ],
)
def test_values_that_cannot_be_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_mapping({"data": "digits", **change})


def test_data_must_be_given() -> None:
    with pytest.raises(SettingsError, match="a design needs data"):
        Settings.from_mapping({"seed": 1})


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 50_000], ids=str)
def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "design.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot read settings from"):
        read_toml(path)


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read settings from"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot read settings from"):
        read_toml(tmp_path)
    long = tmp_path / "long.toml"
    long.write_text("#" * 1_000_001)
    with pytest.raises(SettingsError, match="settings are not that long"):
        read_toml(long)


@pytest.mark.parametrize(
    ("data", "folder"),
    [("digits", "runs/digits-4"), ("../a/flowers.npz", "runs/flowers-4"), ("/", "runs/design-4")],
)
def test_the_folder_is_named_after_data_and_seed(data: str, folder: str) -> None:
    assert Settings(data, seed=4).default_folder() == Path(folder)


def test_a_folder_given_by_a_dot_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowers").mkdir()
    monkeypatch.chdir(tmp_path / "flowers")
    assert Settings(".").default_folder() == Path("runs/flowers-0")
