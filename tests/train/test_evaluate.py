"""Evaluation and re-estimated statistics against brute force."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import DataError
from netsmith.nn.network import Network
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train.evaluate import evaluate, recalibrate


def test_evaluation_equals_one_pass_over_all(make_batches):
    torch.manual_seed(0)
    x, y = torch.randn(23, 1, 8, 8), torch.randint(0, 3, (23,))
    module = Network(mobilenetv2((1, 8, 8), 3, 0.1)).train()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
    found = evaluate(module, make_batches(x, y, 5), predictions=True)
    assert module.training
    assert all(part.training for part in module.modules())
    logits = module.eval()(x)
    assert found.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == y).float().mean().item())
    assert torch.equal(found.predictions, logits.argmax(1))
    assert found.images == 23


def test_no_images_is_an_error(make_batches):
    empty = make_batches(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long), 4)
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
    empty.epoch = lambda number: iter(())
    with pytest.raises(DataError, match="no images"):
        evaluate(module, empty)
    with pytest.raises(DataError, match="no images"):
        recalibrate(module, empty, 3)


def test_recalibration_gives_the_statistics_of_the_data(make_batches):
    torch.manual_seed(0)
    x, y = 3 * torch.randn(40, 2, 4, 4) + 5, torch.zeros(40, dtype=torch.long)
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(3)
    conv = nn.Conv2d(2, 3, 1)
    module = nn.Sequential(first, conv, nn.Dropout(0.9), second).eval()
    with torch.no_grad():
        first.running_mean.fill_(100.0)
        second.running_var.fill_(1e6)
    weights = {name: value.clone() for name, value in module.named_parameters()}
    assert recalibrate(module, make_batches(x, y, 10), 3) == 3
    parts = x[:30].split(10)
    assert torch.allclose(first.running_mean, x[:30].mean((0, 2, 3)), atol=1e-5)
    variance = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in parts]).mean(0)
    assert torch.allclose(first.running_var, variance, rtol=1e-5)
    # Deeper norms see their input as training does: normalised by the batch, without dropout.
    hidden = [
        conv(F.batch_norm(part, None, None, first.weight, first.bias, training=True, eps=first.eps))
        for part in parts
    ]
    assert torch.allclose(second.running_mean, torch.cat(hidden).mean((0, 2, 3)), atol=1e-5)
    assert first.momentum == 0.1
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(value, weights[name]) for name, value in module.named_parameters())


def test_one_batch_gives_its_exact_statistics_in_a_network(make_batches):
    torch.manual_seed(0)
    module = Network(mobilenetv2((1, 8, 8), 3, 0.1))
    x, y = torch.randn(64, 1, 8, 8), torch.zeros(64, dtype=torch.long)
    recalibrate(module, make_batches(x, y, 64), 1)
    # A network whose statistics are those of the batch gives the same outputs in both modes,
    # up to the n / (n - 1) of the running variance.
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.num_batches_tracked == 1
    hidden = module.blocks[0].conv(x)
    assert torch.allclose(module.blocks[0].norm.running_mean, hidden.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(module.blocks[0].norm.running_var, hidden.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_several_batches_are_averaged_alike_in_every_layout(make_batches, layout):
    torch.manual_seed(0)
    plain = Network(mobilenetv2((1, 8, 8), 3, 0.35))
    module = copy.deepcopy(plain).to(memory_format=layout)
    x, y = torch.randn(48, 1, 8, 8), torch.zeros(48, dtype=torch.long)
    recalibrate(module, make_batches(x.contiguous(memory_format=layout), y, 16), 3)
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.no_grad():
        for part in x.split(16):
            plain.train()(part)
    for name, value in plain.named_buffers():
        assert torch.allclose(module.get_buffer(name), value, rtol=1e-3, atol=1e-4), name


def test_a_module_without_norms_needs_nothing(make_batches):
    assert recalibrate(nn.Linear(2, 2), make_batches(torch.ones(2, 2), torch.ones(2), 2), 3) == 0


class Sometimes(nn.Module):
    """One norm that sees every batch, one that sees those of positive mean, and one that sees none."""

    def __init__(self):
        super().__init__()
        self.always, self.sometimes, self.never = (nn.BatchNorm2d(2) for _ in range(3))

    def forward(self, x):
        self.always(x)
        return self.sometimes(x) if x.mean() > 0 else x


def test_a_norm_that_not_every_batch_reaches_averages_those_that_do(make_batches):
    """As in a routed network, of which an operation that no image takes keeps what it has."""
    torch.manual_seed(0)
    x = torch.randn(40, 2, 3, 3) + torch.tensor([-1.0, 2.0, -3.0, 4.0]).repeat_interleave(10).view(
        -1, 1, 1, 1
    )
    module = Sometimes()
    for norm in (module.sometimes, module.never):
        norm.running_mean.fill_(7.0)
    recalibrate(module, make_batches(x, torch.zeros(40), 10), 4)
    parts = x.split(10)
    assert torch.allclose(module.always.running_mean, x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(
        module.sometimes.running_mean, torch.cat([parts[1], parts[3]]).mean((0, 2, 3)), atol=1e-5
    )
    assert torch.equal(module.never.running_mean, torch.full((2,), 7.0))


def test_norms_outside_the_part_stay_as_they_are(make_batches):
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    module, x = nn.Sequential(first, second), torch.randn(20, 2, 3, 3) + 5
    recalibrate(module, make_batches(x, torch.zeros(20), 10), 2, part=second)
    assert torch.equal(first.running_mean, torch.zeros(2))
    expected = (x * (1 + first.eps) ** -0.5).mean((0, 2, 3))
    assert torch.allclose(second.running_mean, expected, atol=1e-5)
