"""Networks of the same layers in other widths: the model finds what a device of known costs takes."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from netsmith.compress.channels import Layer
from netsmith.errors import TableError
from netsmith.latency.layers import LayerModel, fit_layers

BASE = (
    Layer("stem", 3, 16, (3, 3), 1, 1, 16, 16, 256),
    Layer("expand", 16, 64, (1, 1), 1, 1, 16, 16, 256),
    Layer("depthwise", 64, 64, (5, 5), 2, 64, 16, 16, 64),
    Layer("project", 64, 24, (1, 1), 1, 1, 8, 8, 64),
    Layer("classifier", 24, 10, (), 1, 1, 1, 1, 1),
)


def narrowed(rng: Random) -> list[Layer]:
    stem, hidden, out = rng.randint(4, 16), rng.randint(16, 64), rng.randint(6, 24)
    return [
        replace(BASE[0], out_channels=stem),
        replace(BASE[1], in_channels=stem, out_channels=hidden),
        replace(BASE[2], in_channels=hidden, out_channels=hidden, groups=hidden),
        replace(BASE[3], in_channels=hidden, out_channels=out),
        replace(BASE[4], in_channels=out),
    ]


def takes(layers: list[Layer]) -> float:
    """A depthwise multiply-add costs eight of any other, and each layer something for what it gives."""
    dear = {"depthwise": 8.0}
    macs = sum(dear.get(layer.name, 1.0) * layer.macs for layer in layers)
    return 0.01 + macs / 2e7 + sum(layer.out_channels * layer.places for layer in layers) / 5e6


def drawn(count: int, seed: int) -> list[list[Layer]]:
    rng = Random(seed)
    return [narrowed(rng) for _ in range(count)]


def test_it_predicts_networks_that_it_was_not_fitted_to() -> None:
    networks = drawn(24, 0)
    model = fit_layers(networks, [takes(n) for n in networks])
    assert model.error < 0.02
    others = drawn(30, 1)
    assert all(model.predict(n) == pytest.approx(takes(n), rel=0.05) for n in others)


def test_a_dear_layer_is_told_from_its_multiply_adds_alone() -> None:
    """Of two networks of about as many, the one with more in the depthwise layer takes longer."""
    networks = drawn(24, 0)
    model = fit_layers(networks, [takes(n) for n in networks])
    wide = [*BASE[:1], BASE[1], BASE[2], replace(BASE[3], out_channels=6), replace(BASE[4], in_channels=6)]
    inside = replace(BASE[2], in_channels=48, out_channels=48, groups=48)
    deep = [BASE[0], replace(BASE[1], out_channels=48), inside, replace(BASE[3], in_channels=48), BASE[4]]
    assert (takes(wide) > takes(deep)) == (model.predict(wide) > model.predict(deep))


def test_noise_is_not_taken_for_knowledge() -> None:
    rng, networks = Random(2), drawn(30, 2)
    model = fit_layers(networks, [takes(n) * rng.gauss(1, 0.02) for n in networks])
    errors = [abs(model.predict(n) / takes(n) - 1) for n in drawn(30, 3)]
    assert sum(errors) / len(errors) < 0.03
    assert model.error < 0.06


def test_it_is_the_same_when_it_is_read_again() -> None:
    networks = drawn(10, 0)
    model = fit_layers(networks, [takes(n) for n in networks])
    assert LayerModel.from_dict(model.to_dict()) == model
    few = fit_layers(networks[:3], [takes(n) for n in networks[:3]])
    assert math.isnan(few.error)
    assert math.isnan(LayerModel.from_dict(few.to_dict()).error)


def test_networks_without_latencies_are_refused() -> None:
    for networks, latencies in (([], []), (drawn(2, 0), [1.0])):
        with pytest.raises(TableError, match="a latency above 0 each"):
            fit_layers(networks, latencies)
