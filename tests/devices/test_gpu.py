"""The devices on a GPU: the contract where there is one, and a clear word where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netsmith.devices import known_devices, parse
from netsmith.devices.cuda import Cuda
from netsmith.devices.onnx_gpu import OnnxCuda, TensorRt
from netsmith.errors import DeviceError, MissingExtraError
from netsmith.testing import device_contract

GPU = {"cuda": Cuda, "onnxruntime-cuda": OnnxCuda, "tensorrt": TensorRt}
on_every = pytest.mark.parametrize("name", GPU)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")


@on_every
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_device_is_refused_with_what_is_missing(name: str) -> None:
    with pytest.raises(DeviceError, match=f"'{name}' needs an NVIDIA GPU"):
        GPU[name].from_options({})
    (known,) = (known for known in known_devices() if known.name == name)
    assert known.missing


@on_every
def test_a_file_is_written_where_there_is_no_gpu(name: str) -> None:
    device = parse(name, here=False)
    assert device.name == name
    assert device.input_of(device.export(nn.ReLU(), (3, 4, 4))) == ((3, 4, 4), "float32")


@on_every
def test_options_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="has no option 'threads'"):
        parse(f"{name}:threads=2", here=False)


@needs_gpu
@on_every
def test_it_keeps_the_contract(name: str) -> None:
    try:
        device = parse(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    device_contract(device)


@needs_gpu
def test_its_memory_is_that_of_the_gpu_too() -> None:
    device = parse("cuda")
    small, large = (
        device.footprint(device.export(nn.Conv2d(8, width, 3), (8, 8, 8))) for width in (8, 32768)
    )
    assert large.peak_bytes - small.peak_bytes > 8 * 32768 * 9 * 4
