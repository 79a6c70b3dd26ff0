"""The schedule equals its closed form; recipes follow from counts alone; wrong settings are named."""

import math

import pytest
import torch

from netsmith.errors import SettingsError
from netsmith.train.recipe import (
    ALLOWANCE_MACS,
    EPOCH_RANGE,
    TRAINED_PASSES,
    Recipe,
    fit_batch_size,
    fit_lr,
    fit_recipe,
    learning_rate,
    trainable_macs,
    training_cost_macs,
)


def test_the_schedule_equals_pytorchs():
    recipe, steps = Recipe(epochs=5, lr=0.2, warmup_epochs=1), 7
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=28)
    for step in range(7, 35):
        assert learning_rate(recipe, step, steps) == pytest.approx(cosine.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        cosine.step()


def test_the_warm_up_is_a_line_to_the_top():
    recipe = Recipe(epochs=4, lr=0.3, warmup_epochs=1.5)
    rates = [learning_rate(recipe, step, 10) for step in range(40)]
    assert rates[:15] == pytest.approx([0.3 * (i + 1) / 15 for i in range(15)])
    assert rates[15] == 0.3
    assert rates[15:] == sorted(rates[15:], reverse=True)
    assert 0 < rates[-1] < 0.3 * 0.01


def test_without_warm_up_the_first_step_is_the_highest():
    recipe = Recipe(epochs=1, lr=1.0, warmup_epochs=0)
    assert [learning_rate(recipe, step, 2) for step in range(2)] == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"precision": "fp8"}, "known: fp32, bf16, fp16"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"batch_size": -1}, "batch_size must be a whole number"),
        ({"lr": 0.0}, "greater than zero"),
        ({"lr": math.nan}, "lr must be from"),
        ({"lr": "fast"}, "lr must be from"),
        ({"ema": 1.0}, "ema must be from"),
        ({"label_smoothing": -0.1}, "label_smoothing must be from"),
        ({"warmup_epochs": 10}, "fewer than its epochs"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(SettingsError, match=message):
        Recipe(**{"epochs": 10, **setting})


def test_recipes_go_through_json():
    recipe = Recipe(epochs=3, lr=0.1, ema=0.9)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(SettingsError, match="did you mean 'momentum'"):
        Recipe.from_dict({"epochs": 3, "momentun": 0.9})
    with pytest.raises(SettingsError, match="epochs"):
        Recipe.from_dict({"lr": 0.9})


def test_the_cost_is_its_closed_form():
    assert training_cost_macs(2, 10, 100, 0) * 2 == training_cost_macs(4, 10, 100, 0)
    with_work = training_cost_macs(2, 10, 100, 1000) - training_cost_macs(2, 10, 100, 0)
    assert with_work == 3 * 1000 * 100 * 2


@pytest.mark.parametrize("effort", list(ALLOWANCE_MACS))
@pytest.mark.parametrize(("images", "macs"), [(60_000, 8_000_000), (50_000, 300_000_000), (1_000, 500_000)])
def test_epochs_keep_the_allowance(effort, images, macs):
    recipe = fit_recipe(images, macs, effort)
    fewest, most = EPOCH_RANGE[effort]
    assert fewest <= recipe.epochs <= most
    cost = training_cost_macs(recipe.epochs, recipe.batch_size, recipe.epoch_images or images, macs)
    step = training_cost_macs(recipe.epochs, recipe.batch_size, recipe.batch_size, macs)
    assert cost <= ALLOWANCE_MACS[effort] + step
    assert recipe.epoch_images == 0 or recipe.epochs == fewest
    more = training_cost_macs(recipe.epochs + 1, recipe.batch_size, images, macs)
    assert recipe.epochs == most or more > ALLOWANCE_MACS[effort]


def test_more_effort_means_more_epochs():
    counts = [fit_recipe(60_000, 8_000_000, effort).epochs for effort in ALLOWANCE_MACS]
    assert counts == sorted(set(counts))


def test_the_caller_may_give_the_epochs():
    assert fit_recipe(60_000, 8_000_000, epochs=3).epochs == 3
    assert fit_recipe(1, 1, epochs=1).warmup_epochs < 1


def test_unknown_efforts_and_counts_are_named():
    with pytest.raises(SettingsError, match="did you mean 'quick'"):
        fit_recipe(100, 100, "quik")
    with pytest.raises(SettingsError, match="0 images"):
        fit_recipe(0, 100)


def test_batches_and_rates_grow_with_the_data():
    sizes = [fit_batch_size(images) for images in (1_000, 60_000, 200_000, 1_200_000)]
    assert sizes == [32, 64, 128, 256]
    assert [fit_lr(size) for size in sizes] == pytest.approx([0.025, 0.05, 0.1, 0.2])


def test_a_share_of_the_effort_is_a_share_of_the_epochs():
    whole = fit_recipe(50_000, 8_000_000, "thorough").epochs
    assert fit_recipe(50_000, 8_000_000, "thorough", share=0.5).epochs == pytest.approx(whole / 2, abs=1)


def test_passes_count_how_often_an_image_is_seen():
    assert Recipe(epochs=4).passes(1000) == 4
    assert Recipe(epochs=4, epoch_images=250).passes(1000) == 1


@pytest.mark.parametrize("effort", list(ALLOWANCE_MACS))
@pytest.mark.parametrize("images", [1_000, 54_000, 1_000_000])
def test_what_an_effort_can_train_sees_enough_images(effort, images):
    macs = trainable_macs(images, effort)
    seen = ALLOWANCE_MACS[effort] / (3 * macs)
    assert seen == pytest.approx(max(100_000, TRAINED_PASSES[effort] * images))
