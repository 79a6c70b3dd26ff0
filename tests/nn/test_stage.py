import copy

import pytest
import torch
from torch import nn

from netsmith.nn.blocks import build_block
from netsmith.nn.layers import BatchNormReLU6, DepthwiseConv2d
from netsmith.nn.stage import norm_depthwise_norm, takes_stage
from netsmith.plan import Block

LAST = torch.channels_last
SHAPES = [(2, 16, 1, 1), (3, 40, 7, 7), (5, 24, 4, 4), (2, 31, 90, 33)]


@pytest.fixture(autouse=True)
def same_start():
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def far(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def layers(channels, kernel, stride):
    before, after = BatchNormReLU6(channels, 1e-3), BatchNormReLU6(channels, 1e-3)
    for tensor in (before.weight, after.weight):
        nn.init.uniform_(tensor, 1, 2)
    for tensor in (before.bias, after.bias):
        nn.init.uniform_(tensor, 1, 3)
    return nn.ModuleList([before, DepthwiseConv2d(channels, kernel, stride), after])


def flat(parts):
    before, conv, after = parts
    return before, conv.weight, conv.stride[0], after


def one_by_one(x, parts):
    """The five operations in double precision, by PyTorch."""
    wide = copy.deepcopy(parts).double()
    before, conv, after = wide
    return after(conv(before(x))), wide


@pytest.mark.parametrize(("training", "threads"), [(True, 2), (True, 1), (False, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_five_operations(shape, kernel, stride, training, threads):
    torch.set_num_threads(threads)
    parts = layers(shape[1], kernel, stride).train(training)
    x = (torch.randn(shape) + 1).contiguous(memory_format=LAST).requires_grad_()
    exact = x.detach().double().requires_grad_()
    expected, wide = one_by_one(exact, parts)
    assert takes_stage(x, *flat(parts))
    out = norm_depthwise_norm(x, *flat(parts))
    assert far(out, expected) < 1e-5
    for ours, theirs in zip(parts.buffers(), wide.buffers(), strict=True):
        assert far(ours.double(), theirs.double()) < 1e-5
    # No gradient through what rounding may put on either side of a limit of the last ReLU6.
    edge = (expected < 1e-4) | (expected > 6 - 1e-4)
    dy = torch.randn_like(out).masked_fill_(edge, 0.0)
    ours = torch.autograd.grad(out, [x, *parts.parameters()], dy)
    theirs = torch.autograd.grad(expected, [exact, *wide.parameters()], dy.double())
    # Norms over two values have gradients that cancel down to rounding.
    if shape[0] * shape[2] * shape[3] > 32:
        assert max(map(far, ours, theirs)) < 1e-5


def test_saves_two_pictures():
    parts, x = layers(32, 5, 1), torch.randn(4, 32, 8, 8).contiguous(memory_format=LAST).requires_grad_()
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        norm_depthwise_norm(x, *flat(parts))
    assert sum(saved.values()) < 2 * x.numel() * 4 + 10_000


def test_frozen_layers_pass_the_same_gradient_on():
    parts, x = layers(32, 5, 2), torch.randn(4, 32, 8, 8).contiguous(memory_format=LAST).requires_grad_()
    expected = torch.autograd.grad(norm_depthwise_norm(x, *flat(parts)).square().sum(), x)[0]
    parts.requires_grad_(False)
    norm_depthwise_norm(x, *flat(parts)).square().sum().backward()
    assert torch.equal(x.grad, expected)
    assert all(parameter.grad is None for parameter in parts.parameters())


def test_without_gradients_the_result_is_the_same():
    parts, x = layers(32, 5, 2), torch.randn(4, 32, 8, 8).contiguous(memory_format=LAST)
    expected = norm_depthwise_norm(x, *flat(parts))
    with torch.no_grad():
        assert torch.equal(norm_depthwise_norm(x, *flat(parts)), expected)


def test_hooks_are_not_passed_by():
    x, seen = torch.randn(4, 8, 8, 8).contiguous(memory_format=LAST), []
    module = build_block(Block("mbconv", 8, 16, 8, 8, kernel=3, hidden=32))
    for layer in (module.expand[1], module.depthwise, module.norm):
        handle = layer.register_forward_hook(lambda *_: seen.append(1))
        module(x)
        handle.remove()
    assert len(seen) == 3
