"""PyTorch as a device: it keeps its threads to itself, and refuses what it cannot run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices import parse
from netsmith.errors import DeviceError
from netsmith.testing import device_contract


def test_a_pass_leaves_the_threads_of_the_process_as_they_were() -> None:
    seen: list[int] = []
    device = parse("torch:threads=1")
    run = device.prepare(device.export(nn.ReLU(), (3, 4, 4)), np.ones((1, 3, 4, 4), np.float32))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        nn.modules.module.register_module_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        run()
        assert set(seen) == {1}, "of the module and of each of its layers"
        assert torch.get_num_threads() == 2
    finally:
        nn.modules.module._global_forward_hooks.clear()
        torch.set_num_threads(before)


def test_an_input_that_does_not_fit_is_an_error_that_names_it() -> None:
    device = parse("torch")
    model = device.export(nn.Conv2d(3, 4, 3), (3, 8, 8))
    with pytest.raises(DeviceError, match=r"\(1, 2, 8, 8\)"):
        device.prepare(model, np.zeros((1, 2, 8, 8), np.float32))


def test_sparse_weights_are_an_option_that_its_name_and_fingerprint_tell() -> None:
    device = parse("torch:weights=csr,threads=1")
    assert device.name == "torch:threads=1,weights=csr"
    assert device.fingerprint() == {**parse("torch").fingerprint(), "weights": "csr"}
    device_contract(device)
    module = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        module.weight.mul_(torch.arange(module.weight.numel()).view(module.weight.shape) % 4 == 0)
    model, x = device.export(module, (3, 8, 8)), np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    np.testing.assert_allclose(device.prepare(model, x)(), parse("torch").prepare(model, x)(), atol=1e-5)
    with pytest.raises(DeviceError, match="weights of 'torch' are one of dense, csr; got 'scr'"):
        parse("torch:weights=scr")
