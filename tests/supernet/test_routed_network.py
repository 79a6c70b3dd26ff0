"""A routed network is its supernet along the paths that its controller chooses."""

from __future__ import annotations

import torch

from netsmith.nn.controller import build_controller
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.routed_network import RoutedNetwork
from netsmith.train import Recipe, train
from tests.supernet.easy_and_hard import EasyAndHard, space


def test_each_image_takes_what_its_logits_say() -> None:
    torch.manual_seed(0)
    network = RoutedNetwork(RoutedSupernet(space()), build_controller("light", (3, 8, 8), 3, 2)).eval()
    torch.nn.init.normal_(network.controller.body[-1].weight)
    x, _ = next(EasyAndHard(1, 32, 0).epoch(0))
    logits = network.controller(x)
    choices = network.choices(x)
    assert choices.equal(torch.sigmoid(logits) >= 0.5)
    assert 0 < choices.float().mean() < 1
    torch.testing.assert_close(network(x), network.supernet(x, choices))
    network(x).sum().backward()
    assert all(p.grad is None for p in network.controller.parameters())  # a choice has no gradient


def test_training_moves_operations_and_leaves_every_image_its_path() -> None:
    torch.manual_seed(0)
    network = RoutedNetwork(RoutedSupernet(space()), build_controller("resnet", (3, 8, 8), 3, 2))
    images = EasyAndHard(2, 32, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train(network, images, images, Recipe(1, 32, warmup_epochs=0.0), seed=0)
    moved = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert moved
    assert all(name.startswith("supernet.") for name in moved)
