"""Copies of channels change nothing, wherever the channels are read."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from netsmith.compress.dependencies import channels_of
from netsmith.errors import TransformError
from netsmith.transform.widen import widened
from tests.compress.conftest import NETWORKS, SHAPE

pytest.importorskip("torch_pruning")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_group_can_be_doubled_in_part(name: str) -> None:
    torch.manual_seed(0)
    module = NETWORKS[name]()
    x = torch.randn(4, *SHAPE)
    module(x)
    module.eval()
    channels, rng = channels_of(module, SHAPE), Random(0)
    done = 0
    for group in channels.groups:
        extra = [rng.randrange(group.channels) for _ in range(5)]  # one of them more than once, perhaps
        try:
            wider = widened(module, channels, {group.name: extra})
        except TransformError:
            continue
        done += 1
        torch.testing.assert_close(wider(x), module(x), rtol=1e-5, atol=1e-5)
        assert sum(p.numel() for p in wider.parameters()) > sum(p.numel() for p in module.parameters())
    assert done


def test_what_is_not_there_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Flatten())
    channels = channels_of(module, SHAPE)
    with pytest.raises(TransformError, match="no group"):
        widened(module, channels, {"x": [0]})
    with pytest.raises(TransformError, match=r"channels 0\.\.3"):
        widened(module, channels, {"0": [4]})
