"""What choosing a path takes is found as it is; a description makes the network that it is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from netsmith.arch import Arch
from netsmith.costs import Costs
from netsmith.errors import FolderError
from netsmith.pipeline.described import Routes, describe_routed, network_of
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.routing.network import (
    Dispatch,
    ifs_of,
    measure_dispatch,
    most_common,
    new_network,
    write_file,
)
from netsmith.pipeline.routing.static_path import near
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import Work
from netsmith.supernet.policies import archs_of
from netsmith.supernet.routed_network import RoutedNetwork
from netsmith.testing import FakeDevice

LAYOUT = ((16, 1, 1), (16, 2, 2))


@pytest.fixture(scope="module")
def work(small: Callable[..., Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    settings = small(strategy="instance", stages=LAYOUT)
    with DesignFolder(tmp_path_factory.mktemp("routing") / "it", settings) as folder:
        yield Work(folder, settings.data, Silent())


def shaken(work: Work) -> RoutedNetwork:
    """With a controller that gives different images different paths."""
    network = new_network(work, work.routed_space(0.5)).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(network.controller.body[-1].weight, std=3.0)
    (x, _), *_ = work.loader(work.splits.validation, 32, shuffle=False).epoch(0)
    with torch.no_grad():
        network.controller.body[-1].bias -= network.controller.body(x).mean(0)
    return network


def test_choosing_takes_the_controller_and_an_if_what_it_takes(work: Work) -> None:
    found = measure_dispatch(work, work.routed_space(0.5))
    controller = new_network(work, work.routed_space(0.5)).controller.body
    device = FakeDevice()
    alone = device.cost_ms(device.export(controller, (1, 8, 8))) - device.cost_ms(
        device.export(torch.nn.Sequential(torch.nn.ReLU()), (1, 8, 8))
    )
    assert found.if_ms == pytest.approx(0.003, rel=0.02)
    assert found.choosing_ms == pytest.approx(alone, rel=0.02)


def test_every_path_takes_what_is_said_of_it(work: Work) -> None:
    """A common one, and one that passes an ``If`` at each operation."""
    network, dispatch = shaken(work), Dispatch(0.5, 0.003)
    space = network.supernet.space
    pixels = work.splits.validation.fetch(torch.arange(10))
    x = work.loader(work.splits.validation, 10, shuffle=False).normalise(pixels)
    archs = archs_of(space, network.choices(x))
    common = most_common(archs)[:3]
    assert len(set(archs)) > 4
    model = write_file(work, network, common, "it")
    timed, _ = work.bench.time_images({"it": (model, list(pixels.numpy()[:, None]))})
    static = {
        arch: FakeDevice().cost_ms(FakeDevice().export(network.supernet.extract(arch).eval(), (1, 8, 8)))
        for arch in set(archs)
    }
    extra = [one.median_ms - static[arch] for one, arch in zip(timed["it"], archs, strict=True)]
    said = [dispatch.of(space, common, arch) - 0.5 for arch in archs]
    controller = extra[archs.index(common[0])] - 0.003
    np.testing.assert_allclose(np.array(extra) - controller, said, atol=2e-4)


def test_ifs_are_counted_by_edges_and_operations(work: Work) -> None:
    space = work.routed_space(0.5)  # of its three edges the last may be skipped
    assert space.skippable == (False, False, True)
    assert ifs_of(space, space.arch((1, 1, 0))) == 5 + 5 + 1
    assert ifs_of(space, space.arch((3, 16, 9))) == 5 + 5 + 6
    dispatch, common = Dispatch(1.0, 0.1), [space.arch((1, 1, 0)), space.arch((2, 1, 0))]
    assert dispatch.of(space, common, common[1]) == pytest.approx(1.2)
    assert dispatch.of(space, common, space.arch((4, 1, 0))) == pytest.approx(1.0 + 0.1 * (2 + 11))


def test_a_description_makes_the_same_network(work: Work) -> None:
    network = shaken(work)
    space = network.supernet.space
    costs = Costs(0.1, [[0.01 * (i + j) for j in range(5)] for i in range(3)], 0.2)
    arch = space.arch((5, 16, 0))
    told = json.loads(json.dumps(describe_routed(space, "light", costs, Dispatch(0.05, 0.01), [arch])))
    again = network_of(told)
    assert isinstance(again, RoutedNetwork)
    again.load_state_dict(network.state_dict())
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        np.testing.assert_allclose(again.eval()(x), network(x), atol=1e-5)
    routes = Routes.of(told)
    assert routes.space == space
    whole = 0.1 + 0.0 + 0.02 + 0.05
    assert routes.predicted_ms(arch) == pytest.approx(whole + 0.2 * whole**2 + 0.05 + 0.01)


@pytest.mark.parametrize(
    "damage",
    [
        {"edges": []},
        {"edges": [[{"op": "mbconv"}]] * 3},
        {"edges": [[]] * 1000},
        {"stem": 3},
        {"controller": "oracle"},
        {"head": [[]]},
    ],
)
def test_a_damaged_description_is_refused(damage: dict[str, Any], work: Work) -> None:
    space = work.routed_space(0.5)
    costs = Costs(0.1, [[0.01] * 5] * 3)
    told = describe_routed(space, "light", costs, Dispatch(0.05, 0.01), [])
    told["routed"] |= damage
    with pytest.raises(FolderError, match="describes no network"):
        network_of(told)


def test_a_path_near_a_limit_has_no_room_for_another_operation(work: Work) -> None:
    space = work.routed_space(0.5)
    weights = [[1.0 + i + 0.3 * j for j in range(5)] for i in range(3)]

    def cost(arch: Arch) -> float:
        pairs = zip(weights, arch.choices, strict=True)
        return sum(w for row, bits in pairs for j, w in enumerate(row) if bits >> j & 1)

    for seed in range(20):
        arch = near(space, cost, 12.0, Random(seed))
        assert cost(arch) <= 12.0
        more = [
            space.arch((*arch.choices[:i], arch.choices[i] | 1 << j, *arch.choices[i + 1 :]))
            for i in range(3)
            for j in range(5)
        ]
        assert all(cost(each) > 12.0 for each in more if each != arch)
    shallow = near(space, cost, 0.1, Random(0))
    assert sum(bits.bit_count() for bits in shallow.choices) == 2
