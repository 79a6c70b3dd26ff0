"""PyTorch as a device: it keeps its threads to itself, and refuses what it cannot run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices import parse
from netsmith.errors import DeviceError


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
