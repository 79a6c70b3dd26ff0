"""The networks that growth begins with run on images of any size, and are rebuilt from what tells them."""

from __future__ import annotations

import pytest
import torch

from netsmith.nn.starts import WIDTHS, Start


@pytest.mark.parametrize("name", ["densenet", "pyramidnet", "mobilenetv2"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 27)])
def test_they_run_on_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    sizes = []
    for width in (WIDTHS[0], 0.5):
        start = Start(name, width, shape, 4)
        network = start.network().eval()
        assert network(torch.randn(2, *shape)).shape == (2, 4)
        assert Start.from_dict(start.to_dict()) == start
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    "changed",
    [{"name": "resnet"}, {"width": 0.3}, {"shape": [3, 8]}, {"classes": 10**6}, {"shape": [10**9, 8, 8]}],
)
def test_what_describes_none_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Start.from_dict({**Start("densenet", 1.0, (3, 8, 8), 4).to_dict(), **changed})
