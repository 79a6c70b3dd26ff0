"""One step of the controller, and one epoch of the weights, by hand."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from netsmith.costs import Costs
from netsmith.nn.controller import build_controller
from netsmith.spaces.mbconv import Stage
from netsmith.spaces.routed import routed
from netsmith.supernet.instanas import controller_loss, draw, greedy
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.instance_steps import Judge, controller_step, train_weights
from netsmith.supernet.policies import complete
from netsmith.supernet.routed import RoutedSupernet
from tests.supernet.easy_and_hard import EasyAndHard

SPACE = routed((3, 8, 8), 4, width=0.25, stages=[Stage(32, 2, 2)], mbconvs=[(3, 2)])
COSTS = Costs(1.0, [[2.0, 4.0], [8.0, 16.0]])
ALL = torch.tensor(list(product([False, True], repeat=4))).view(16, 2, 2)


def test_a_step_is_judged_against_the_greedy_policy_and_moves_the_controller_alone() -> None:
    torch.manual_seed(0)
    supernet, controller = RoutedSupernet(SPACE), build_controller("light", (3, 8, 8), 2, 2)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(4, (8,))
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    recipe = InstanceRecipe()
    judge = Judge(supernet, COSTS, 0.0, 32.0, recipe)
    logits = controller.train()(x)
    drawn = draw(logits, recipe.exploration, torch.Generator().manual_seed(5))
    best, sample = judge(x, y, greedy(logits)), judge(x, y, drawn)
    loss = controller_loss(logits, drawn, sample.reward - best.reward, 0.8, 0.8)
    wanted = torch.autograd.grad(loss, list(controller.parameters()))

    optimizer = torch.optim.SGD(controller.parameters(), lr=1e-9)
    outcome, entropy = controller_step(controller, optimizer, x, y, judge, torch.Generator().manual_seed(5))
    for parameter, gradient in zip(controller.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert outcome.policies.equal(greedy(logits))
    assert outcome.reward.equal(best.reward)
    assert 0.6 < entropy < math.log(2)
    assert all(value.equal(before[name]) for name, value in supernet.state_dict().items())
    assert all(p.grad is None for p in supernet.parameters())


def test_the_judge_sees_right_labels_and_latencies() -> None:
    torch.manual_seed(0)
    supernet, x = RoutedSupernet(SPACE), torch.randn(16, 3, 8, 8)
    labels = supernet.eval()(x, ALL).argmax(1)
    outcome = Judge(supernet.train(), COSTS, 0.0, 32.0, InstanceRecipe())(x, labels, ALL)
    assert outcome.correct.all()
    paths = complete(SPACE, ALL).long()
    assert outcome.latency_ms.equal(1 + (paths * torch.tensor([[2, 4], [8, 16]])).sum((1, 2)))
    torch.testing.assert_close(outcome.reward, 30 * (1 - (outcome.latency_ms / 16 - 1) ** 2))


def test_weights_follow_the_plain_gradient_and_what_no_image_used_stays() -> None:
    """One batch, plain descent: w - lr * dL/dw; the loss and the accuracy are those before the step."""
    torch.manual_seed(0)
    supernet, batches = RoutedSupernet(SPACE), EasyAndHard(1, 16, 3)
    (x, y), policies = next(batches.epoch(0)), torch.tensor([[True, False], [False, False]]).expand(16, 2, 2)
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    logits = supernet.train()(x, policies)
    loss = F.cross_entropy(logits, y)
    gradients = dict(
        zip(before, torch.autograd.grad(loss, list(supernet.parameters()), allow_unused=True), strict=True)
    )

    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.5, momentum=0.9, weight_decay=0.0)
    found = train_weights(supernet, batches, 0, optimizer, lambda images: policies)
    assert found == pytest.approx((loss.item(), (logits.argmax(1) == y).float().mean().item()))
    for name, parameter in supernet.named_parameters():
        if name.startswith(("edges.1", "edges.0.operations.1")):
            assert gradients[name] is None
            assert parameter.equal(before[name])
        else:
            torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * gradients[name])
