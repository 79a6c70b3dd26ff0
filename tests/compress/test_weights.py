"""Weights go in the order that brute force gives, by the schedule's closed form, and never come back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netsmith.compress.weights import (
    SCOPES,
    Sparse,
    Sparsity,
    kept_weights,
    prunable,
    scheduled,
    share_of_zeros,
)
from netsmith.errors import CompressionError
from netsmith.nn.condense import condensing
from netsmith.train import Recipe, train


def everything(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.ones_like(w, dtype=torch.bool) for w in weights]


class Halves:
    """Noise with a brighter left or right half."""

    def __len__(self) -> int:
        return 6

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(number)
        for _ in range(6):
            y = torch.randint(0, 2, (16,), generator=generator)
            x = 0.3 * torch.randn(16, 1, 6, 6, generator=generator)
            x[y == 0, :, :, :3] += 1
            yield x, y


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> tuple[Halves, Halves]:
    """To train on and to validate by; equal bits are promised on a processor."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    return Halves(), Halves()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 36, 2),
    )  # fmt: skip


def test_the_schedule_is_that_of_the_paper() -> None:
    """Zhu and Gupta 2017, eq. 1, at its steps; between them, what the step before said."""
    for k in range(11):
        expected = 0.8 + (0 - 0.8) * (1 - k / 10) ** 3
        assert scheduled(0.8, 0.1 + 0.05 * k, begin=0.1, end=0.6, steps=10) == pytest.approx(expected)
    assert scheduled(0.8, 0.149, begin=0.1, end=0.6, steps=10) == 0
    assert scheduled(0.8, 0.05, begin=0.1, end=0.6, steps=10) == 0
    assert scheduled(0.8, 1.0, begin=0.1, end=0.6, steps=10) == pytest.approx(0.8)


def test_over_the_network_and_over_each_layer_the_least_go() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(6, 4, 3, 3, generator=generator), 2 * torch.randn(5, 8, generator=generator)]
    every = sorted(abs(float(v)) for w in weights for v in w.flatten())
    for share in (0.0, 0.1, 0.5, 0.93):
        limit = every[int(share * len(every))]
        found = kept_weights(weights, everything(weights), Sparsity(0.95), share)
        assert all(torch.equal(kept, w.abs() >= limit) for kept, w in zip(found, weights, strict=True))
        found = kept_weights(weights, everything(weights), Sparsity(0.95, "layer"), share)
        for kept, w in zip(found, weights, strict=True):
            mine = sorted(abs(float(v)) for v in w.flatten())
            assert torch.equal(kept, w.abs() >= mine[int(share * len(mine))])


@pytest.mark.parametrize(("kept_of_run", "run"), [(2, 4), (1, 4), (3, 4), (1, 2), (3, 8)])
def test_a_pattern_keeps_the_greatest_of_every_run_of_inputs(kept_of_run: int, run: int) -> None:
    generator = torch.Generator().manual_seed(run)
    weight, linear = torch.randn(3, 8, 2, 3, generator=generator), torch.randn(4, 16, generator=generator)
    sparsity = Sparsity.pattern(kept_of_run, run)
    assert sparsity.name == f"{kept_of_run}:{run}"
    of_images, of_lines = kept_weights(
        [weight, linear], everything([weight, linear]), sparsity, sparsity.share
    )
    for o, start, y, x in product(range(3), range(0, 8, run), range(2), range(3)):
        values = weight[o, start : start + run, y, x].abs()
        greatest = set(values.sort(descending=True).indices[:kept_of_run].tolist())
        assert set(of_images[o, start : start + run, y, x].nonzero().flatten().tolist()) == greatest
    for o, start in product(range(4), range(0, 16, run)):
        assert int(of_lines[o, start : start + run].sum()) == kept_of_run


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_gone_stays_gone_however_large_it_grows(scope: Any) -> None:
    weights = [torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(1))]
    sparsity = Sparsity(0.75, scope, 4 if scope == "run" else 0)
    first = kept_weights(weights, everything(weights), sparsity, 0.5)
    grown = [torch.where(first[0], weights[0], 100.0)]
    second = kept_weights(grown, first, sparsity, 0.75)
    assert not (second[0] & ~first[0]).any()
    assert int((~second[0]).sum()) == 0.75 * weights[0].numel()


def test_the_first_layer_and_depthwise_ones_stay_whole() -> None:
    assert list(prunable(network(), Sparsity(0.5))) == ["3.weight", "6.weight"]
    assert list(prunable(network(), Sparsity.pattern(2, 16))) == ["6.weight"]
    with pytest.raises(CompressionError, match="whole runs of 32"):
        prunable(network()[:4], Sparsity.pattern(16, 32))
    with pytest.raises(CompressionError, match="no convolution or linear layer behind the first"):
        prunable(nn.Conv2d(1, 2, 3), Sparsity(0.5))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"share": 1.0}, "a share of 0 to below 1"),
        ({"share": 0.5, "scope": "all"}, "one scope of network, layer, run"),
        ({"share": 0.3, "scope": "run", "run": 4}, "a whole number"),
        ({"share": 0.5, "run": 4}, "runs of 4"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(CompressionError, match=said):
        Sparsity(**asked)
    with pytest.raises(CompressionError, match="keeps 1 to m"):
        Sparsity.pattern(0, 4)


@pytest.mark.parametrize(
    ("sparsity", "ema"), [(Sparsity(0.75), 0.0), (Sparsity(0.5, "layer"), 0.9), (Sparsity.pattern(1, 4), 0.9)]
)
def test_after_training_the_share_is_exactly_zero(
    sparsity: Sparsity, ema: float, batches: tuple[Any, Any], tmp_path: Path
) -> None:
    """With momentum and weight decay, which move the numbers behind the zeros."""
    module = Sparse(network(), sparsity)
    assert condensing(module) == (module,)
    train(module, *batches, Recipe(4, 16, lr=0.1, ema=ema), seed=0)
    folded = module.fold()
    for name, weight in prunable(folded, sparsity).items():
        if sparsity.scope != "network":
            assert float((weight == 0).float().mean()) == sparsity.share, name
    pruned = torch.cat([w.detach().flatten() for w in prunable(folded, sparsity).values()])
    assert int((pruned == 0).sum()) == sparsity.share * len(pruned)
    whole = sum(layer.weight.numel() for layer in folded if isinstance(layer, nn.Conv2d | nn.Linear))
    assert share_of_zeros(folded) == pytest.approx(sparsity.share * len(pruned) / whole)
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(folded(x), module(x), rtol=0, atol=0)


def test_no_step_brings_a_weight_back(batches: tuple[Any, Any]) -> None:
    module = Sparse(network(), Sparsity(0.75))
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    gone = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in module.masked_weights().items()}
    x, y = next(iter(batches[0].epoch(0)))
    for step in range(30):
        module.condense(step / 29)
        loss = nn.functional.cross_entropy(module(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, weight in module.masked_weights().items():
            assert (weight[gone[name]] == 0).all()
            gone[name] = weight == 0
    assert torch.cat([g.flatten() for g in gone.values()]).float().mean() == 0.75


class StopError(Exception):
    pass


def test_killed_and_gone_on_it_ends_in_the_same_bits(batches: tuple[Any, Any], tmp_path: Path) -> None:
    recipe = Recipe(4, 16, lr=0.1, ema=0.9)

    def run(checkpoint: Path, stop: int = 0) -> Sparse:
        def on_epoch(figures: Any) -> None:
            if figures.epoch == stop:
                raise StopError

        module = Sparse(network(), Sparsity(0.75))
        train(module, *batches, recipe, seed=0, checkpoint=checkpoint, on_epoch=on_epoch)
        return module

    whole = run(tmp_path / "whole.safetensors")
    for stop in (1, 3):
        with pytest.raises(StopError):
            run(tmp_path / f"{stop}.safetensors", stop)
        again = run(tmp_path / f"{stop}.safetensors")
        for name, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name


def test_the_same_seed_ends_alike_and_the_schedule_passes_through_every_share(
    batches: tuple[Any, Any],
) -> None:
    seen: list[float] = []
    module = Sparse(network(), Sparsity(0.75))
    for step in range(101):
        module.condense(step / 100)
        flat = torch.cat([w.detach().flatten() for w in module.masked_weights().values()])
        seen.append(float((flat == 0).float().mean()))
    assert seen == sorted(seen)
    expected = [scheduled(0.75, step / 100) for step in range(101)]
    assert seen == pytest.approx(expected, abs=1 / len(flat) + 1e-6)
