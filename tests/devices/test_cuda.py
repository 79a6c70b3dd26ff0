"""PyTorch on a GPU: the contract where there is one, and a clear word where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netsmith.devices import known_devices, parse
from netsmith.errors import DeviceError
from netsmith.testing import device_contract

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_device_is_refused_with_what_is_missing() -> None:
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        parse("cuda")
    (cuda,) = (known for known in known_devices() if known.name == "cuda")
    assert "NVIDIA GPU" in cuda.missing


def test_a_file_is_written_where_there_is_no_gpu() -> None:
    device = parse("cuda", here=False)
    assert device.name == "cuda"
    assert device.input_of(device.export(nn.ReLU(), (3, 4, 4))) == ((3, 4, 4), "float32")


def test_options_are_refused() -> None:
    with pytest.raises(DeviceError, match="has no option 'threads'"):
        parse("cuda:threads=2")


@needs_gpu
def test_it_keeps_the_contract() -> None:
    device_contract(parse("cuda"))


@needs_gpu
def test_its_memory_is_that_of_the_gpu_too() -> None:
    device = parse("cuda")
    small, large = (
        device.footprint(device.export(nn.Conv2d(8, width, 3), (8, 8, 8))) for width in (8, 32768)
    )
    assert large.peak_bytes - small.peak_bytes > 8 * 32768 * 9 * 4
