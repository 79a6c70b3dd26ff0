"""Devices are found by name, wrong names are explained, and each keeps the contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices import known_devices, parse
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.errors import DeviceError, MissingExtraError
from netsmith.testing import FakeDevice, device_contract

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "name",
    [
        "onnxruntime",
        "onnxruntime:threads=1,precision=int8",
        "openvino",
        "openvino:precision=int8",
        "litert",
        "litert:precision=int8",
        "executorch",
        "executorch:precision=int8",
        "mnn",
        "ncnn",
        "torch",
        "fake",
        "fake:likes=7",
    ],
)
def test_every_device_keeps_the_contract(name: str) -> None:
    package = {"litert": "ai_edge_litert", "mnn": "_mnncengine", "fake": "onnxruntime"}
    runtime = name.partition(":")[0]
    pytest.importorskip(package.get(runtime, runtime))
    device_contract(parse(name))


def test_names_and_options_are_parsed() -> None:
    assert parse(" onnxruntime ") == OnnxRuntime(1)
    assert parse("onnxruntime:threads=1").name == "onnxruntime:threads=1"
    assert parse("openvino:precision=int8").name == "openvino:threads=1,precision=int8"
    assert parse("fake:likes=7").name == "fake:likes=7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onxruntime", "did you mean 'onnxruntime'"),
        ("", "no device is called ''"),
        ("onnxruntime:thread=1", "did you mean 'threads'"),
        ("onnxruntime:threads", "NAME:OPTION=VALUE"),
        ("onnxruntime:threads=1,threads=2", "each once"),
        ("onnxruntime:threads=two", "whole number"),
        ("onnxruntime:threads=0", "Ask for 1 to"),
        ("onnxruntime:threads=1000", "this machine has"),
        ("openvino:precision=int9", "did you mean 'int8'"),
        ("mnn:precision=int8", "has no option 'precision'"),
        ("ncnn:precision=int8", "has no option 'precision'"),
        ("fake:likes=9", "3 or 7"),
    ],
)
def test_wrong_names_say_what_is_right(text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        parse(text)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netsmith.devices.device._version", lambda package: None)
    assert {known.version for known in known_devices()} == {None}
    assert all(known.missing == f"pip install 'netsmith[{known.extra}]'" for known in known_devices())
    for name in ("onnxruntime", "openvino", "litert", "executorch", "mnn", "ncnn"):
        with pytest.raises(MissingExtraError, match=rf"pip install 'netsmith\[{name}\]'"):
            parse(name)


def test_listing_and_parsing_devices_loads_no_runtime_and_no_torch() -> None:
    code = (
        "import sys; from netsmith.devices import known_devices, parse\n"
        "assert known_devices()[0].version; parse('onnxruntime')\n"
        "assert not {'torch', 'onnxruntime', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_refused_input_is_an_error_that_names_it() -> None:
    device = OnnxRuntime()
    model = device.export(nn.ReLU(), (3, 4, 4))
    with pytest.raises(DeviceError, match=r"\(1, 2, 4, 4\)"):
        device.prepare(model, np.zeros((1, 2, 4, 4), np.float32))


def _depthwise(kernel: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=8)


def test_the_fake_devices_differ_in_what_they_like() -> None:
    threes, sevens = FakeDevice("3"), FakeDevice("7")
    files = {kernel: threes.export(_depthwise(kernel), (8, 16, 16)) for kernel in (3, 7)}
    macs = {kernel: 8 * kernel * kernel * 256 for kernel in files}
    assert threes.cost_ms(files[3]) == pytest.approx(0.006 + 0.5 * macs[3] / 2e7)
    assert threes.cost_ms(files[7]) == pytest.approx(0.006 + 6.0 * macs[7] / 2e7)
    assert sevens.cost_ms(files[7]) == pytest.approx(0.006 + 0.5 * macs[7] / 2e7)
    assert sevens.cost_ms(files[7]) < threes.cost_ms(files[7])


def test_the_fake_clock_moves_by_the_cost_of_the_whole_batch() -> None:
    device = FakeDevice()
    model = device.export(_depthwise(3), (8, 16, 16))
    run = device.prepare(model, np.zeros((4, 8, 16, 16), np.float32))
    start = device.clock()
    run()
    assert device.clock() - start == round(4 * device.cost_ms(model) * 1e6)
    assert device.passes == 1
