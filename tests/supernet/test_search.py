"""Searches find a planted best path, keep the budget, and survive being stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from netsmith.errors import TrainingError
from netsmith.nn.blocks import BUILDERS
from netsmith.plan import Block
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import Stage, mbconv
from netsmith.supernet.objective import PathCosts
from netsmith.supernet.recipe import SearchRecipe
from netsmith.supernet.search import ProxylessSearch, SearchEpoch


class Noise(nn.Module):
    """Adds noise of a planted strength: the weaker, the better the path."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.sigma * torch.randn(x.shape) if self.sigma else x


class Synthetic:
    """Images of a few classes, each a fixed pattern under noise."""

    def __init__(self, batches: int, batch: int, seed: int, channels: int = 8) -> None:
        generator = torch.Generator().manual_seed(0)
        patterns = torch.randn(4, channels, 4, 4, generator=generator)
        generator.manual_seed(seed)
        self.batches = []
        for _ in range(batches):
            y = torch.randint(4, (batch,), generator=generator)
            x = patterns[y] + 0.5 * torch.randn(batch, channels, 4, 4, generator=generator)
            self.batches.append((x.contiguous(memory_format=torch.channels_last), y))

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        start = number % len(self.batches)
        yield from self.batches[start:] + self.batches[:start]


BEST = (2, 0, 1, 2)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ChainSpace:
    """Four edges of three options that differ in noise alone; ``BEST`` is the quiet path."""
    for level, sigma in enumerate((0.0, 1.0, 2.0)):
        monkeypatch.setitem(BUILDERS, f"noise{level}", lambda block, sigma=sigma: Noise(sigma))
    edges = []
    for best in BEST:
        levels = [(i - best) % 3 for i in range(3)]
        edges.append(tuple(Block(f"noise{level}", 8, 8, 4, 4) for level in levels))
    return ChainSpace("planted", (), tuple(edges), (Block("head", 8, 4, 4, 4, hidden=16),))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("update", ["gradient", "reinforce"])
def test_finds_the_planted_path(planted: ChainSpace, update: str, seed: int) -> None:
    costs = PathCosts.of(1.0, [[0.1] * 3] * 4)
    recipe = SearchRecipe(
        epochs=8, warmup_epochs=2, weights="own", update=update, alpha_every=1, alpha_lr=0.05
    )  # type: ignore[arg-type]
    search = ProxylessSearch(planted, [(costs, 1.4)], recipe, seed)
    torch.manual_seed(seed)
    search.run(Synthetic(25, 32, 1), Synthetic(25, 128, 2))
    assert search.aims[0].paths.most_probable().choices == BEST


def test_the_expected_latency_converges_to_the_budget(planted: ChainSpace) -> None:
    """The quiet path costs the most: without the budget the search goes there, with it it stops short."""
    costs = PathCosts.of(1.0, [[1.0 if i == best else 0.0 for i in range(3)] for best in BEST])
    target = 3.0
    figures: list[SearchEpoch] = []
    recipe = SearchRecipe(
        epochs=14, warmup_epochs=2, weights="own", alpha_every=1, alpha_lr=0.03, prune_below=0
    )
    search = ProxylessSearch(planted, [(costs, target)], recipe, 0)
    search.run(Synthetic(25, 32, 1), Synthetic(25, 128, 2), on_epoch=figures.append)
    assert sum(f.expected_ms for f in figures[-4:]) / 4 == pytest.approx(target, rel=0.1)


def test_two_aims_share_the_weights_and_reach_their_own_ends(planted: ChainSpace) -> None:
    """One is free to take the quiet path, for the other it costs the most."""
    free = PathCosts.of(1.0, [[0.1] * 3] * 4)
    dear = PathCosts.of(1.0, [[1.0 if i == best else 0.0 for i in range(3)] for best in BEST])
    figures: list[SearchEpoch] = []
    recipe = SearchRecipe(
        epochs=14, warmup_epochs=2, weights="own", alpha_every=1, alpha_lr=0.03, prune_below=0
    )
    search = ProxylessSearch(planted, [(free, 1.4), (dear, 3.0)], recipe, 0)
    search.run(Synthetic(25, 32, 1), Synthetic(25, 128, 2), on_epoch=figures.append)
    assert [f.aim for f in figures] == [0, 1] * 14
    assert search.aims[0].paths.most_probable().choices == BEST
    held = [f.expected_ms for f in figures if f.aim == 1]
    assert sum(held[-4:]) / 4 == pytest.approx(3.0, rel=0.1)


def test_what_one_aim_closes_stays_while_another_has_it_open(small: ChainSpace) -> None:
    cheap, dear = (
        costs_of(small),
        PathCosts.of(0.5, [[1.0 - 0.1 * j for j in range(len(o))] for o in small.edges]),
    )
    recipe = SearchRecipe(epochs=4, warmup_epochs=1, weights="own", alpha_lr=0.5, prune_below=0.9)
    search = ProxylessSearch(small, [(cheap, 0.8), (dear, 0.8)], recipe, 0)
    search.run(Upsampled(4, 16, 1), Upsampled(3, 16, 2))
    first, second = (aim.paths.open for aim in search.aims)
    assert not torch.equal(first, second)
    for aim in search.aims:
        search.extract(aim.paths.most_probable())


@pytest.fixture
def small() -> ChainSpace:
    return mbconv((8, 8, 8), 4, width=0.25, stages=[Stage(24, 2, 2)])


class Upsampled(Synthetic):
    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for x, y in super().epoch(number):
            yield x.repeat_interleave(2, 2).repeat_interleave(2, 3), y


def costs_of(space: ChainSpace) -> PathCosts:
    return PathCosts.of(0.5, [[0.1 * (j + 1) for j in range(len(o))] for o in space.edges])


@pytest.mark.parametrize("weights", ["own", "shared"])
@pytest.mark.parametrize(("update", "devices"), [("gradient", 1), ("reinforce", 1), ("gradient", 2)])
def test_a_stopped_search_goes_on_to_the_same_bits(
    small: ChainSpace, tmp_path: Path, weights: str, update: str, devices: int
) -> None:
    recipe = SearchRecipe(
        epochs=5, warmup_epochs=1, weights=weights, update=update, alpha_lr=0.3, prune_below=0.9
    )  # type: ignore[arg-type]
    train, validation = Upsampled(4, 16, 1), Upsampled(3, 16, 2)

    targets = [(costs_of(small), 1.0), (costs_of(small), 1.5)][:devices]
    whole = ProxylessSearch(small, targets, recipe, 7)
    whole.run(train, validation)

    class StopError(Exception):
        pass

    def stop(figures: SearchEpoch) -> None:
        if figures.epoch == 2:
            raise StopError

    path = tmp_path / "search.safetensors"
    first = ProxylessSearch(small, targets, recipe, 7)
    with pytest.raises(StopError):
        first.run(train, validation, checkpoint_path=path, on_epoch=stop)
    with pytest.raises(TrainingError, match=f"a search for {devices} devices, not for 3"):
        ProxylessSearch(small, targets[:1] * 3, recipe, 7).run(train, validation, checkpoint_path=path)
    again = ProxylessSearch(small, targets, recipe, 7)
    again.run(train, validation, checkpoint_path=path)

    for ours, theirs in zip(again.aims, whole.aims, strict=True):
        assert torch.equal(ours.paths.alpha, theirs.paths.alpha)
        assert torch.equal(ours.paths.open, theirs.paths.open)
    assert again.aims[0].paths.open.sum() < sum(len(options) for options in small.edges)
    for ours, theirs in ((again.supernet, whole.supernet), (again.average.module, whole.average.module)):
        expected = theirs.state_dict()
        assert expected.keys() == ours.state_dict().keys()
        assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())


def test_pruned_paths_leave_the_optimizer_too(small: ChainSpace) -> None:
    recipe = SearchRecipe(epochs=3, warmup_epochs=1, weights="own", alpha_lr=0.5, prune_below=0.9)
    search = ProxylessSearch(small, [(costs_of(small), 1.0)], recipe, 0)
    search.run(Upsampled(4, 16, 1), Upsampled(3, 16, 2))
    alive = set(search.supernet.parameters())
    assert {p for group in search.optimizer.param_groups for p in group["params"]} == alive
    assert set(search.optimizer.state) <= alive


def test_hands_over_the_average_of_the_weights(small: ChainSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average of every fourth step's weights, by the closed form of its decay."""
    recipe = SearchRecipe(epochs=3, warmup_epochs=1, weights="own", alpha_lr=0.1)
    search, seen = ProxylessSearch(small, [(costs_of(small), 1.0)], recipe, 0), []
    update = search.average.update

    def record(module: nn.Module, step: int) -> None:
        update(module, step)
        seen.append(search.supernet.head[0].classifier.weight.detach().clone())

    monkeypatch.setattr(search.average, "update", record)
    expected = search.supernet.head[0].classifier.weight.detach().clone()
    search.run(Upsampled(40, 16, 1), Upsampled(3, 16, 2))
    assert len(seen) == 30
    span = 0.08 * 120 / 4
    for step, weight in enumerate(seen):
        decay = min(span / (span + 1), (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    extracted = search.extract(search.aims[0].paths.most_probable())
    torch.testing.assert_close(extracted.blocks[-1].classifier.weight, expected)
    assert not torch.equal(expected, search.supernet.head[0].classifier.weight)
