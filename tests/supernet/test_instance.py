"""The three phases find cheap paths for easy images, keep their schedules, and survive being stopped."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netsmith.errors import TrainingError
from netsmith.nn.controller import Controller, build_controller
from netsmith.supernet import instance
from netsmith.supernet.instanas import Bounds
from netsmith.supernet.instance import InstanceEpoch, finetune, pretrain, search
from netsmith.supernet.instance_recipe import InstanceRecipe
from netsmith.supernet.policies import latencies_ms
from netsmith.supernet.routed import RoutedSupernet
from netsmith.supernet.routed_network import RoutedNetwork
from tests.supernet.easy_and_hard import CLASSES, COSTS, DEAR, EasyAndHard, is_hard, space

SPACE = space()
BOUNDS = Bounds.published(SPACE, COSTS)
"""Midway between them at last: 2.25 ms over the constant, next to two cheap operations or one dear one."""


def networks(seed: int) -> tuple[RoutedSupernet, Controller]:
    torch.manual_seed(seed)
    supernet = RoutedSupernet(SPACE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return supernet, build_controller("light", (3, 8, 8), 3, 2)


def run(
    recipe: InstanceRecipe,
    seed: int,
    batches: int,
    folder: Path | None = None,
    on_epoch: Any = lambda figures: None,
) -> RoutedNetwork:
    supernet, controller = networks(seed)
    train, validation = EasyAndHard(batches, 64, 1), EasyAndHard(batches, 64, 500)
    files = {name: folder and folder / name for name in ("pretrain", "search", "finetune")}
    pretrain(supernet, train, recipe, seed, checkpoint_path=files["pretrain"], on_epoch=on_epoch)
    search(
        supernet, controller, COSTS, BOUNDS, train, validation, recipe, seed,
        checkpoint_path=files["search"], on_epoch=on_epoch,
    )  # fmt: skip
    finetune(supernet, controller, COSTS, train, recipe, checkpoint_path=files["finetune"], on_epoch=on_epoch)
    return RoutedNetwork(supernet, controller).eval()


@pytest.fixture(scope="module")
def trained() -> RoutedNetwork:
    recipe = InstanceRecipe(
        pretrain_epochs=6, search_epochs=16, finetune_epochs=3, pretrain_lr=0.1, search_lr=0.02,
        controller_lr=5e-3, finetune_lr=0.01,
    )  # fmt: skip
    return run(recipe, 0, 16)


@torch.no_grad()
def test_easy_images_take_cheap_paths_and_hard_ones_what_they_need(trained: RoutedNetwork) -> None:
    x, y = next(EasyAndHard(1, 512, 900).epoch(0))
    policies, hard = trained.choices(x), is_hard(512)
    correct = trained(x).argmax(1) == y
    assert correct[~hard].float().mean() > 0.97
    assert correct[hard].float().mean() > 0.97
    dear = policies[:, :, DEAR].any(1)
    assert dear[~hard].float().mean() < 0.03
    assert dear[hard].float().mean() > 0.9
    latency = latencies_ms(SPACE, COSTS, policies)
    assert latency[~hard].mean() <= 3.1
    assert 3.7 <= latency[hard].mean() <= 4.3


@torch.no_grad()
def test_no_constant_policy_of_its_mean_latency_comes_near(trained: RoutedNetwork) -> None:
    x, y = next(EasyAndHard(1, 512, 900).epoch(0))
    mean = latencies_ms(SPACE, COSTS, trained.choices(x)).mean()
    constants = torch.tensor(list(product([False, True], repeat=6))).view(64, 3, 2)
    affordable = constants[latencies_ms(SPACE, COSTS, constants) <= mean]
    shares = [(trained.supernet(x, p.expand(512, 3, 2)).argmax(1) == y).float().mean() for p in affordable]
    assert (trained(x).argmax(1) == y).float().mean() > max(shares) + 0.2


SHORT = InstanceRecipe(
    pretrain_epochs=4, search_epochs=3, finetune_epochs=3, pretrain_lr=0.1, search_lr=0.02, controller_lr=0.01
)


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    expected = theirs.state_dict()
    return all(value.equal(expected[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("stops", [[("pretrain", 1)], [("search", 0), ("search", 1), ("finetune", 0)]])
def test_what_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, stops: list[tuple[str, int]]) -> None:
    whole, left = run(SHORT, 3, 4), list(stops)
    assert equal(whole, run(SHORT, 3, 4))
    assert not equal(whole, run(SHORT, 4, 4))

    class StopError(Exception):
        pass

    def stop(figures: InstanceEpoch) -> None:
        seen.append((figures.phase, figures.epoch))
        if seen[-1] in left:
            left.remove(seen[-1])
            raise StopError

    seen: list[tuple[str, int]] = []
    for _ in stops:
        with pytest.raises(StopError):
            run(SHORT, 3, 4, tmp_path, stop)
    assert equal(whole, run(SHORT, 3, 4, tmp_path, stop))
    assert len(seen) == len(set(seen)) == 10


def test_a_search_that_halts_at_a_bound_goes_on_from_there(tmp_path: Path) -> None:
    train, validation = EasyAndHard(4, 32, 1), EasyAndHard(4, 32, 500)
    whole, halting = networks(0), networks(0)
    search(*whole, COSTS, BOUNDS, train, validation, SHORT, 7)
    figures: list[InstanceEpoch] = []
    for until in (1, 3):
        search(
            *halting, COSTS, BOUNDS, train, validation, SHORT, 7,
            until=until, checkpoint_path=tmp_path / "search", on_epoch=figures.append,
        )  # fmt: skip
        assert len(figures) == until
    assert all(equal(ours, theirs) for ours, theirs in zip(halting, whole, strict=True))
    assert [f.upper_ms for f in figures] == pytest.approx([9.4, 7.45, 5.5])
    assert figures[-1].to_dict()["phase"] == "search"


class Same(nn.Module):
    """A controller that chooses the same operations for every image; at first all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((3, 2), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), 3, 2)


def test_under_a_bound_that_no_policy_keeps_the_search_comes_down_to_it() -> None:
    """Between 1 and 1.9 ms lies no path: nothing would ever be rewarded."""
    supernet, _ = networks(0)
    train, validation = EasyAndHard(1, 8, 1), EasyAndHard(16, 64, 500)
    recipe = InstanceRecipe(search_epochs=10, search_lr=1e-6, controller_lr=0.02, entropy_weight=0.0)
    figures: list[InstanceEpoch] = []
    search(
        supernet, Same(), COSTS, Bounds(1.0, 1.9, 1.9), train, validation, recipe, 0, on_epoch=figures.append
    )
    uppers, latencies = ([getattr(f, name) for f in figures] for name in ("upper_ms", "latency_ms"))
    assert uppers[0] == pytest.approx(COSTS.constant + 3 * (3.0 + 1.0))
    assert uppers == sorted(uppers, reverse=True)
    assert latencies[-1] < 5


def test_each_phase_has_a_file_of_its_own(tmp_path: Path) -> None:
    supernet, controller = networks(0)
    train = EasyAndHard(1, 16, 1)
    pretrain(supernet, train, SHORT, 0, checkpoint_path=tmp_path / "one")
    with pytest.raises(TrainingError, match="of phase 'pretrain', not of 'finetune'"):
        finetune(supernet, controller, COSTS, train, SHORT, checkpoint_path=tmp_path / "one")


@pytest.mark.parametrize(("epochs", "batches"), [(8, 1), (2, 4)])
def test_pretraining_drops_operations_in_its_second_half_and_lowers_its_rate(
    monkeypatch: pytest.MonkeyPatch, epochs: int, batches: int
) -> None:
    """Step by step: an epoch of four batches as four epochs of one."""
    supernet, _ = networks(0)
    shares, rates = [], []

    def watch(net: Any, train: Any, number: int, optimizer: Any, choose: Any) -> tuple[float, float]:
        for _ in range(len(train)):
            shares.append(choose(torch.zeros(4000, 1)).float().mean().item())
            rates.append(optimizer.param_groups[0]["lr"])
        return 0.0, 0.0

    monkeypatch.setattr(instance, "train_weights", watch)
    recipe = InstanceRecipe(pretrain_epochs=epochs, whole_share=0.25, most_dropped=0.6)
    pretrain(supernet, EasyAndHard(batches, 4, 0), recipe, 0)
    assert shares[:3] == [1.0] * 3
    assert shares[3:] == pytest.approx([1 - 0.6 * k / 6 for k in range(1, 6)], abs=0.01)
    wanted = [0.01 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert rates == pytest.approx([0.01 * 0.02, *wanted[1:]])


class Reader(nn.Module):
    """A controller that is sure of what an image's first six pixels say."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1e4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.scale * x[:, 0, 0, :6]).view(-1, 3, 2)


def test_weights_learn_with_policies_that_were_drawn_for_other_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the search; in fine-tuning each image has its own."""
    supernet, _ = networks(0)
    train, calls = EasyAndHard(1, 32, 1), []
    monkeypatch.setattr(
        supernet,
        "forward",
        lambda x, p, f=supernet.forward: calls.append((supernet.training, x, p)) or f(x, p),
    )
    recipe = InstanceRecipe(search_epochs=1, finetune_epochs=1, exploration=1.0, controller_lr=0.0)
    search(supernet, Reader(), COSTS, BOUNDS, train, EasyAndHard(1, 8, 2), recipe, 0)
    finetune(supernet, Reader(), COSTS, train, recipe)
    (x, shuffled), (again, own) = [(x, p) for training, x, p in calls if training]
    wanted = Reader()(x) >= 0
    assert again.equal(x)
    assert own.equal(wanted)
    assert not shuffled.equal(wanted)
    assert sorted(shuffled.flatten(1).tolist()) == sorted(wanted.flatten(1).tolist())


def test_the_controller_sees_validation_and_the_weights_train(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet, controller = networks(0)
    train, validation = EasyAndHard(2, 32, 1), EasyAndHard(2, 16, 2)
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    monkeypatch.setattr(
        supernet, "forward", lambda x, p, f=supernet.forward: seen[supernet.training].add(len(x)) or f(x, p)
    )
    search(supernet, controller, COSTS, BOUNDS, train, validation, SHORT, 0, until=2)
    assert seen == {True: {32}, False: {16}}


def test_a_loss_that_is_no_number_stops_the_phase() -> None:
    supernet, _ = networks(0)
    with torch.no_grad():
        supernet.head[0].classifier.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="loss is nan in epoch 0, step 0"):
        pretrain(supernet, EasyAndHard(1, 8, 0), SHORT, 0)


def test_all_classes_are_there() -> None:
    _, y = next(EasyAndHard(1, 64, 0).epoch(0))
    assert set(y.tolist()) == set(range(CLASSES))
