"""Bits that are switched compute what a network that was quantised to them does."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import nn

from netsmith.compress.fake_quant import fake_quantized, layer_shapes
from netsmith.compress.precision import LayerBits
from netsmith.compress.switched import Switched


@pytest.mark.parametrize(("name", "codebooks"), [("grouped", False), ("residual", True)])
def test_any_policy_gives_what_quantising_to_it_does_in_any_order(
    network: Callable[[str], nn.Module], name: str, codebooks: bool
) -> None:
    each = network(name)
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in each.state_dict().items()}
    layers, rng = list(layer_shapes(each, x[:1])), Random(0)
    switched = Switched(each, layers, iter([x]), bits=(2, 4, 8), codebooks=codebooks)
    for _ in range(3):
        bits = {name: LayerBits(rng.choice((2, 4, 8)), rng.choice((2, 4, 8))) for name in layers}
        whole = fake_quantized(each, bits, [x], codebooks=codebooks).eval()
        assert torch.equal(switched.at(bits)(x), whole(x))
    assert all(torch.equal(each.state_dict()[name], value) for name, value in before.items())
