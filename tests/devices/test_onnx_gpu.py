"""ONNX Runtime on a GPU: what its provider does not run must not run on the processor unseen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices import onnx_gpu
from netsmith.devices.onnx_gpu import OnnxCuda, OnnxGpu, TensorRt
from netsmith.errors import DeviceError


@pytest.mark.parametrize("device", [OnnxCuda(), TensorRt()])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_provider_that_cannot_be_started_is_no_other(
    device: OnnxGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_gpu, "gpu_of", lambda name: torch)
    model = device.export(nn.Conv2d(1, 2, 3), (1, 4, 4))
    with pytest.raises(DeviceError, match=f"{device.name} cannot run this file"):
        device.prepare(model, np.zeros((1, 1, 4, 4), np.float32))
