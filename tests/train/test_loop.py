"""Training where the answer is known: it learns, repeats itself, blends, distils, and rolls back once."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import DataError, FolderError, SettingsError, TrainingError
from netsmith.nn.condense import LearnedGroupConv2d, condensing, deployed
from netsmith.nn.network import Network
from netsmith.plan import Block, Plan
from netsmith.train import Recipe, train
from netsmith.train.evaluate import evaluate
from netsmith.train.loop import seed_of
from netsmith.train.recipe import learning_rate

RECIPE = Recipe(epochs=3, batch_size=16, optimizer="sgd", lr=0.1, weight_decay=1e-4, dropout=0.2, ema=0.8)
PLAN = Plan(
    (
        Block("conv", 1, 4, 6, 6, kernel=3),
        Block("mbconv", 4, 4, 6, 6, kernel=3, hidden=12, shortcut=True),
        Block("head", 4, 2, 6, 6, hidden=16),
    )
)


def _network(seed=0):
    torch.manual_seed(seed)
    return Network(PLAN)


def _plant_nan(batches, at):
    """Make the steps in ``at``, counted over the whole training, those of broken images."""
    plain, count = batches.epoch, [0]

    def epoch(number):
        for x, y in plain(number):
            broken = count[0] in at
            count[0] += 1
            yield (torch.full_like(x, float("nan")) if broken else x), y

    batches.epoch = epoch


def _same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_separable_images_are_learned(train_batches, validation_batches, optimizer):
    lr = {"sgd": 0.1, "adamw": 0.01}[optimizer]
    recipe = Recipe(epochs=6, batch_size=16, optimizer=optimizer, lr=lr, ema=0.8)
    module, seen = _network(), []
    result = train(module, train_batches, validation_batches, recipe, seed=0, on_epoch=seen.append)
    assert result.last.accuracy >= 0.98
    assert list(result.figures) == seen
    assert [figures.epoch for figures in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].train_loss < seen[0].train_loss
    assert not module.training
    # The figures are those of the weights that were handed over.
    evaluation = evaluate(module, validation_batches)
    assert (evaluation.accuracy, evaluation.loss) == (result.last.accuracy, result.last.loss)
    assert result.best.accuracy == max(figures.accuracy for figures in seen)
    assert not result.rolled_back


def test_the_same_seed_gives_the_same_bits(train_batches, validation_batches):
    modules = [_network(), _network(), _network()]
    for module, seed in zip(modules, (5, 5, 6), strict=True):
        torch.manual_seed(seed_of(len(modules), id(module)))  # the caller's random numbers do not matter
        train(module, train_batches, validation_batches, RECIPE, seed=seed)
    assert _same(modules[0], modules[1])
    assert not _same(modules[0], modules[2])  # other dropout


def test_the_callers_random_numbers_are_left_alone(train_batches, validation_batches):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(module := _network(), train_batches, validation_batches, RECIPE, seed=0)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    train(module, train_batches, validation_batches, RECIPE, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(4), expected)


def test_one_plain_step_is_pytorchs(make_batches, validation_batches):
    x, y = validation_batches.x[:8], validation_batches.y[:8]
    recipe = Recipe(
        epochs=1,
        warmup_epochs=0,
        optimizer="sgd",
        lr=0.1,
        momentum=0.9,
        weight_decay=0.0,
        label_smoothing=0.0,
    )
    module, plain = _network(), _network()
    train(module, make_batches(x, y, 8), validation_batches, recipe, seed=0)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, 0.9, nesterov=True)
    F.cross_entropy(plain.train()(x), y).backward()
    optimizer.step()
    for (name, mine), theirs in zip(module.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5), name


def test_the_gradient_is_clipped(make_batches, validation_batches):
    x, y = validation_batches.x[:8], validation_batches.y[:8]
    recipe = Recipe(
        epochs=1, warmup_epochs=0, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, grad_clip=1e-3
    )
    module = _network()
    before = [parameter.clone() for parameter in module.parameters()]
    train(module, make_batches(x, y, 8), validation_batches, recipe, seed=0)
    moved = [(a - b).square().sum() for a, b in zip(module.parameters(), before, strict=True)]
    assert torch.stack(moved).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-2)


def test_a_blend_is_a_function_of_the_seed(train_batches, validation_batches):
    drawn = []

    def mix(x, y, generator):
        drawn.append(torch.rand(1, generator=generator).item())
        shares = F.one_hot(y, 2).float()
        return 0.9 * x + 0.1 * x.flip(0), 0.9 * shares + 0.1 * shares.flip(0)

    for _ in range(2):
        train(_network(), train_batches, validation_batches, RECIPE, seed=0, mix=mix)
    assert drawn[:18] == drawn[18:]
    assert len(set(drawn[:18])) == 18


def test_a_teacher_teaches_without_true_labels(train_batches, validation_batches):
    recipe = Recipe(epochs=6, batch_size=16, optimizer="sgd", lr=0.1, distillation=1.0)
    teacher = _network(1)
    train(teacher, train_batches, validation_batches, recipe, seed=0)
    before = copy.deepcopy(teacher)
    train_batches.y = torch.zeros_like(train_batches.y)
    result = train(_network(2), train_batches, validation_batches, recipe, seed=0, teacher=teacher)
    assert result.last.accuracy >= 0.95
    assert _same(teacher, before)


def test_bf16_trains_on_a_processor_and_leaves_a_plain_module(train_batches, validation_batches):
    recipe = Recipe(epochs=5, batch_size=16, optimizer="sgd", lr=0.1, precision="bf16")
    module = _network()
    result = train(module, train_batches, validation_batches, recipe, seed=0)
    assert result.last.accuracy >= 0.95
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert "forward" not in vars(module)
    assert module(validation_batches.x).dtype == torch.float32
    # Another precision after it, in the same process.
    train(module, train_batches, validation_batches, RECIPE, seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_fp16_without_a_gpu_is_an_error(train_batches, validation_batches):
    recipe = Recipe(epochs=1, warmup_epochs=0, precision="fp16")
    with pytest.raises(SettingsError, match="fp16 training needs a GPU"):
        train(_network(), train_batches, validation_batches, recipe, seed=0)


@pytest.mark.parametrize("at", [0, 8, 17])
def test_one_nan_rolls_back_and_goes_on_with_smaller_steps(train_batches, validation_batches, at):
    steps = len(train_batches)
    _plant_nan(train_batches, {at})
    module = _network()
    result = train(module, train_batches, validation_batches, RECIPE, seed=0)
    assert result.rolled_back
    assert len(result.figures) == 3
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    scales = [0.3 if epoch >= at // steps else 1.0 for epoch in range(3)]
    for epoch, scale in enumerate(scales):
        lr = learning_rate(RECIPE, epoch * steps + steps - 1, steps)
        assert result.figures[epoch].lr == pytest.approx(scale * lr)


def test_a_second_nan_is_an_error_that_says_where(train_batches, validation_batches):
    _plant_nan(train_batches, {8, 13})
    with pytest.raises(
        TrainingError, match=r"loss was nan in epoch 2, step 5, again .* end of epoch 1 with 0.3"
    ):
        train(_network(), train_batches, validation_batches, RECIPE, seed=0)


def test_a_rolled_back_epoch_is_the_one_of_a_training_that_began_so(train_batches, validation_batches):
    """A roll-back in the first epoch leaves nothing behind: it equals a training with the smaller rate."""
    modules = [_network(), _network()]
    small = Recipe.from_dict({**RECIPE.to_dict(), "lr": 0.3 * RECIPE.lr})
    train(modules[0], copy.copy(train_batches), validation_batches, small, seed=0)
    _plant_nan(train_batches, {3})
    train(modules[1], train_batches, validation_batches, RECIPE, seed=0)
    for name, value in modules[1].state_dict().items():
        assert torch.allclose(value, modules[0].state_dict()[name], atol=1e-5), name


DENSE = Plan(
    (
        Block("stem", 1, 16, 6, 6, kernel=3),
        Block("dense", 16, 24, 6, 6, cell="norm+relu,1x1:32/4/4,norm+relu,3x3:8/4"),
        Block("classifier", 24, 2, 6, 6, hidden=12),
    )
)


def test_what_condenses_is_told_how_far_the_training_is(train_batches, validation_batches):
    """Of 30 steps: a quarter of the inputs at 1/6, 1/3 and 1/2 of them; the classifier's half at 1/2."""
    torch.manual_seed(0)
    module, kept = Network(DENSE), []
    plain = train_batches.epoch
    learned, linear = condensing(module)

    def epoch(number):
        for batch in plain(number):
            yield batch
            kept.append((int(learned.mask.sum()), int(linear.mask.sum())))

    train_batches.epoch = epoch
    recipe = Recipe(epochs=5, batch_size=16, lr=0.05, ema=0.8)
    result = train(module, train_batches, validation_batches, recipe, seed=0)
    assert kept == [(64, 24)] * 5 + [(48, 24)] * 5 + [(32, 24)] * 5 + [(16, 12)] * 15
    assert result.last.accuracy >= 0.9
    x = validation_batches.x
    with torch.no_grad():
        for select in (True, False):  # what was trained is what is deployed
            assert torch.allclose(deployed(module, select=select)(x), module(x), atol=1e-5)


def test_the_shortest_training_condenses_to_the_end(make_batches, validation_batches):
    batches = make_batches(validation_batches.x[:16], validation_batches.y[:16], 16)
    module = Network(DENSE)
    train(module, batches, validation_batches, Recipe(epochs=1, warmup_epochs=0), seed=0)
    assert [int(layer.mask.sum()) for layer in condensing(module)] == [16, 12]


def test_a_group_lasso_is_part_of_what_is_minimised(make_batches, validation_batches):
    """One step of a layer whose loss is flat: its weights move along the lasso's gradient alone."""
    x, y = validation_batches.x[:8], validation_batches.y[:8]
    recipe = Recipe(
        epochs=1,
        warmup_epochs=0,
        lr=1.0,
        momentum=0.0,
        weight_decay=0.0,
        group_lasso=0.1,
        label_smoothing=0.0,
    )
    torch.manual_seed(0)
    learned = LearnedGroupConv2d(1, 2, 2, 1)
    module = nn.Sequential(learned, nn.Flatten(), nn.Linear(72, 2))
    nn.init.zeros_(module[2].weight)  # so that no gradient passes it
    before = learned.weight.detach().clone()
    train(module, make_batches(x, y, 8), validation_batches, recipe, seed=0)
    assert torch.allclose(learned.weight, before - 0.1 * before.sign())  # each group is one weight


def test_batches_without_images_are_an_error(make_batches, validation_batches):
    one = make_batches(validation_batches.x[:3], validation_batches.y[:3], 1)
    with pytest.raises(DataError, match="at least 2 images"):
        train(_network(), one, validation_batches, RECIPE, seed=0)


def test_a_single_left_over_image_is_passed_over(make_batches, validation_batches):
    batches = make_batches(validation_batches.x[:17], validation_batches.y[:17], 16)
    assert train(nn.Sequential(_network()), batches, validation_batches, RECIPE, seed=0).last.epoch == 3


def test_a_finished_training_is_not_done_again(tmp_path, train_batches, validation_batches):
    path, first, again = tmp_path / "a", _network(), _network(9)
    result = train(first, train_batches, validation_batches, RECIPE, seed=0, checkpoint=path)

    def refuse(figures):
        raise AssertionError("trained again")

    same = train(again, train_batches, validation_batches, RECIPE, seed=0, checkpoint=path, on_epoch=refuse)
    assert same == result
    assert _same(first, again)


def test_the_checkpoint_of_another_training_is_refused(tmp_path, train_batches, validation_batches):
    path = tmp_path / "a"
    train(_network(), train_batches, validation_batches, RECIPE, seed=0, checkpoint=path)
    other = Recipe.from_dict({**RECIPE.to_dict(), "lr": 0.05})
    with pytest.raises(FolderError, match=r"lr 0.1 instead of 0.05"):
        train(_network(), train_batches, validation_batches, other, seed=0, checkpoint=path)
    with pytest.raises(FolderError, match=r"seed 0 instead of 1"):
        train(_network(), train_batches, validation_batches, RECIPE, seed=1, checkpoint=path)
    with pytest.raises(FolderError, match="do not fit the module"):
        train(nn.Linear(2, 2), train_batches, validation_batches, RECIPE, seed=0, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FolderError, match="damaged"):
        train(_network(), train_batches, validation_batches, RECIPE, seed=0, checkpoint=path)
