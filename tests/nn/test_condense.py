"""What condenses keeps the weights that the rule says, and computes the same where it is deployed."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from netsmith.errors import SpaceError
from netsmith.nn.condense import (
    LearnedGroupConv2d,
    LearnedLinear,
    Select,
    condensing,
    deployed,
)
from netsmith.nn.dense import Dense
from netsmith.nn.layers import BatchNorm, BatchNormReLU, DepthwiseConv2d


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def shaken(module: nn.Module) -> nn.Module:
    """The module in float64 with norms that a mistake in their order would show, condensed to the end."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias)
    for layer in condensing(module):
        layer.condense(1.0)
    return module.double().eval()


def test_steps_are_due_in_the_first_half_of_the_training() -> None:
    """C = 4: at 1/6, 1/3 and 1/2, each a quarter of the inputs (Huang et al. 2018, section 3.2)."""
    layer, kept = LearnedGroupConv2d(16, 8, 2, 4), {}
    for step in range(61):
        layer.condense(step / 60)
        kept[step] = layer.mask.sum(1).tolist()
    assert [step for step in range(1, 61) if kept[step] != kept[step - 1]] == [10, 20, 30]
    assert [kept[step] for step in (0, 10, 20, 30, 60)] == [[16, 16], [12, 12], [8, 8], [4, 4], [4, 4]]


def test_each_group_loses_the_inputs_of_least_weight() -> None:
    layer = LearnedGroupConv2d(4, 4, 2, 2)
    sizes = torch.tensor(
        [[1.0, 2, 3, 4], [8, 7, 6, 5], [-1.5, 2, -3, 4], [8, 7, 5, 6]]
    )  # of filter and input
    with torch.no_grad():
        layer.weight.copy_(sizes[:, :, None, None])
    layer.condense(1.0)
    # Filters 0 and 2 are the first group, 1 and 3 the second.
    assert layer.mask.tolist() == [[False, False, True, True], [True, True, False, False]]
    assert torch.equal(layer.masked_weight()[1, :, 0, 0], torch.tensor([8.0, 7, 0, 0]))
    norms = [(3**2 + 3**2) ** 0.5, (4**2 + 4**2) ** 0.5, (8**2 + 8**2) ** 0.5, (7**2 + 7**2) ** 0.5]
    assert layer.lasso().item() == pytest.approx(sum(norms) + 4 * 1e-3)  # dropped ones count a thousandth


def test_what_was_dropped_stays_so_and_learns_nothing() -> None:
    layer = LearnedGroupConv2d(8, 8, 4, 4)
    layer.condense(0.2)
    dropped = ~layer.mask
    with torch.no_grad():
        layer.weight.mul_(torch.where(layer.masked_weight() == 0, 100.0, 1.0))
    layer.condense(0.2)
    assert torch.equal(~layer.mask, dropped)
    layer(torch.randn(2, 8, 3, 3)).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[layer.masked_weight() == 0].abs().max() == 0
    layer.condense(1.0)
    assert (~layer.mask)[dropped].all()


def test_the_kept_inputs_are_those_that_condensing_would_leave() -> None:
    """Steps without training between them end where one step does, and where the deployed form begins."""
    layer = LearnedGroupConv2d(24, 8, 4, 3)
    predicted, weight = layer.kept(), layer.final_weight()
    for progress in (0.25, 0.5):
        layer.condense(progress)
    assert torch.equal(layer.mask.nonzero()[:, 1].view(4, 8), predicted)
    assert torch.equal(layer.masked_weight(), weight)


@pytest.mark.parametrize("select", [True, False])
@pytest.mark.parametrize(("groups", "factor"), [(1, 1), (1, 4), (4, 1), (2, 4), (4, 2), (4, 4)])
def test_a_convolution_equals_its_deployed_form(groups: int, factor: int, select: bool) -> None:
    layer = shaken(LearnedGroupConv2d(16, 12, groups, factor))
    x, form = torch.randn(3, 16, 5, 4, dtype=torch.float64), deployed(layer, select=select)
    torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-12)
    assert any(isinstance(part, Select) for part in form.modules()) == select
    weights = sum(parameter.numel() for parameter in form.parameters())
    assert weights == 16 * 12 // (factor if select else 1)


@pytest.mark.parametrize("select", [True, False])
def test_a_linear_layer_equals_its_deployed_form(select: bool) -> None:
    layer = shaken(LearnedLinear(12, 5, 2))
    x, form = torch.randn(3, 12, dtype=torch.float64), deployed(layer, select=select)
    torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in form.parameters()) == 5 + 5 * (6 if select else 12)


def chains() -> list[list[nn.Module]]:
    """Learned group convolutions before and behind every other kind of layer."""
    between = (
        lambda: [],
        lambda: [BatchNormReLU(8)],
        lambda: [BatchNorm(8), DepthwiseConv2d(8, 3), BatchNormReLU(8)],
        lambda: [nn.Conv2d(8, 8, 3, padding=1, bias=False)],
        lambda: [nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)],
        lambda: [nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False), DepthwiseConv2d(8, 3), nn.ReLU()],
    )
    return [
        [BatchNormReLU(16), LearnedGroupConv2d(16, 8, 4, 4), *make(), LearnedGroupConv2d(8, 8, 2, 4), *end()]
        for make, end in product(between, between)
    ]


@pytest.mark.parametrize("select", [True, False])
@pytest.mark.parametrize("number", range(36))
def test_a_dense_layer_equals_its_deployed_form(number: int, select: bool) -> None:
    layer = shaken(Dense(nn.Sequential(*chains()[number])))
    x, form = torch.randn(2, 16, 6, 6, dtype=torch.float64), deployed(layer, select=select)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-11)
    assert not condensing(form)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_shuffles_cost_nothing_where_the_next_layers_take_them_along() -> None:
    body = [
        LearnedGroupConv2d(16, 8, 4, 4),
        BatchNormReLU(8),
        DepthwiseConv2d(8, 3),
        nn.Conv2d(8, 4, 1, bias=False),
    ]
    form = deployed(Dense(nn.Sequential(*body)).eval())
    assert sum(isinstance(part, Select) for part in form.modules()) == 1  # the choice of inputs


def test_a_network_without_learned_groups_is_left_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Dense(nn.Sequential(nn.Conv2d(4, 4, 1))))
    assert deployed(module) is module
    mixed = nn.Sequential(module, LearnedGroupConv2d(8, 8, 4, 4))
    form = deployed(mixed)
    assert form is not mixed
    assert form[0] is module  # type: ignore[index]
    assert isinstance(mixed[1], LearnedGroupConv2d)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "factor"), [(8, 6, 4, 2), (6, 8, 4, 4), (8, 8, 4, 0)]
)
def test_sizes_that_do_not_fit_are_refused(inputs: int, outputs: int, groups: int, factor: int) -> None:
    with pytest.raises(SpaceError, match="learned group layer"):
        LearnedGroupConv2d(inputs, outputs, groups, factor)
