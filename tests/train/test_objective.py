"""Losses, groups and averages against their closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.nn.network import Network
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train.objective import make_optimizer, objective
from netsmith.train.recipe import Recipe


def test_label_smoothing_is_that_of_the_paper():
    torch.manual_seed(0)
    logits, y = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    shares = F.one_hot(y, 4) * 0.8 + 0.2 / 4
    by_hand = -(shares * logits.log_softmax(1)).sum(1).mean()
    recipe = Recipe(epochs=1, warmup_epochs=0, label_smoothing=0.2)
    assert objective(logits, y, recipe) == pytest.approx(by_hand.item(), abs=1e-6)
    # A hard label and the same label as shares are one loss.
    assert objective(logits, F.one_hot(y, 4).float(), recipe) == pytest.approx(by_hand.item(), abs=1e-6)


def test_mixed_labels_mix_the_losses():
    torch.manual_seed(0)
    logits, a, b = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 1, 0, 2, 2, 0])
    recipe = Recipe(epochs=1, warmup_epochs=0, label_smoothing=0.0)
    shares = 0.3 * F.one_hot(a, 3) + 0.7 * F.one_hot(b, 3)
    mixed = 0.3 * F.cross_entropy(logits, a) + 0.7 * F.cross_entropy(logits, b)
    assert objective(logits, shares, recipe) == pytest.approx(mixed.item(), abs=1e-6)


def test_distillation_is_the_divergence_from_the_teacher():
    torch.manual_seed(0)
    logits, teacher, y = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    recipe = Recipe(epochs=1, warmup_epochs=0, label_smoothing=0, distillation=0.25, temperature=2.0)
    p, q = (teacher / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    by_hand = 0.75 * F.cross_entropy(logits, y) + 0.25 * 4 * divergence
    assert objective(logits, y, recipe, teacher) == pytest.approx(by_hand.item(), abs=1e-5)
    alike = Recipe(epochs=1, warmup_epochs=0, distillation=1.0)
    assert objective(logits, y, alike, logits) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(name):
    module = Network(mobilenetv2((1, 8, 8), 2, 0.1))
    recipe = Recipe(epochs=1, warmup_epochs=0, optimizer=name, lr=0.5, weight_decay=0.1, momentum=0.0)
    before = {key: value.clone() for key, value in module.named_parameters()}
    optimizer = make_optimizer(module, recipe)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in module.named_parameters():
        # No gradient leaves only the decay: w (1 - lr wd).
        share = 1.0 if value.ndim == 1 else 0.95
        assert torch.allclose(value, before[key] * share, atol=1e-7), key


def test_frozen_parameters_are_left_out():
    module = nn.Linear(2, 2).requires_grad_(False)
    module.bias.requires_grad_(True)
    optimizer = make_optimizer(module, Recipe(epochs=1, warmup_epochs=0))
    assert [p for group in optimizer.param_groups for p in group["params"]] == [module.bias]
