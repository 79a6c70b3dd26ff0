import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netsmith.nn.layers import BatchNorm, BatchNormReLU, BatchNormReLU6, DepthwiseConv2d

LAST = torch.channels_last


def far(a, b):
    """The largest difference, relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()


def images(n, c, h, w, grad=False):
    return torch.randn(n, c, h, w).contiguous(memory_format=LAST).requires_grad_(grad)


def plain_depthwise(x, layer):
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, 1, layer.groups)


def plain_norm(norm):
    """The same figures in PyTorch's own layer, and the activation that ours has behind it."""
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    plain.load_state_dict(norm.state_dict())
    plain.train(norm.training)
    return plain, {BatchNorm: lambda x: x, BatchNormReLU6: F.relu6, BatchNormReLU: F.relu}[type(norm)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


SHAPES = [(1, 16, 1, 1), (1, 17, 2, 5), (3, 40, 7, 7), (5, 24, 4, 4), (2, 72, 15, 13), (2, 31, 40, 33)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_depthwise_equals_pytorch(shape, kernel, stride, threads):
    layer = DepthwiseConv2d(shape[1], kernel, stride)
    x = images(*shape, grad=True)
    out, plain = layer(x), plain_depthwise(x, layer)
    assert "_Depthwise" in type(out.grad_fn).__name__
    assert out.is_contiguous(memory_format=LAST)
    assert far(out, plain) < 1e-6
    dy = torch.randn_like(out)
    ours = torch.autograd.grad(out, [x, layer.weight], dy)
    theirs = torch.autograd.grad(plain, [x, layer.weight], dy)
    assert max(map(far, ours, theirs)) < 1e-5


def test_depthwise_of_a_large_picture_goes_in_bands():
    layer, x = DepthwiseConv2d(16, 7, 2), images(1, 16, 150, 301, grad=True)
    out, plain = layer(x), plain_depthwise(x, layer)
    ours = torch.autograd.grad(out.square().sum(), [x, layer.weight])
    theirs = torch.autograd.grad(plain.square().sum(), [x, layer.weight])
    assert max(map(far, ours, theirs)) < 1e-5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [BatchNorm, BatchNormReLU6, BatchNormReLU])
@pytest.mark.parametrize("shape", [(2, 16, 1, 1), *SHAPES[1:]])
def test_batch_norm_equals_pytorch(shape, kind, training, threads):
    norm = kind(shape[1], 1e-3, 0.1).train(training)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    plain, activation = plain_norm(norm)
    x = (3 * torch.randn(shape) + 2).contiguous(memory_format=LAST).requires_grad_()
    out, expected = norm(x), activation(plain(x))
    assert "_Norm" in type(out.grad_fn).__name__
    assert far(out, expected) < 1e-5
    for ours, theirs in zip(norm.buffers(), plain.buffers(), strict=True):
        assert far(ours.float(), theirs.float()) < 1e-5
    dy = torch.randn_like(out)
    ours = torch.autograd.grad(out, [x, norm.weight, norm.bias], dy)
    theirs = torch.autograd.grad(expected, [x, plain.weight, plain.bias], dy)
    # Two values a channel make gradients that cancel to rounding; their size is then that of the terms.
    scale = 1.0 if shape[0] * shape[2] * shape[3] > 2 else 1e3
    assert max(map(far, ours, theirs)) < 1e-5 * scale


def test_batch_norm_keeps_the_bits_of_a_small_variance():
    norm = BatchNorm(16)
    x = (1000 + torch.randn(64, 16, 8, 8)).contiguous(memory_format=LAST)
    expected = F.batch_norm(x.double(), None, None, training=True, eps=norm.eps)
    assert far(norm(x).double(), expected) < 1e-4


def test_relu6_passes_nan_on():
    x = images(2, 16, 2, 2)
    x[0, 3, 1, 1] = float("nan")
    out = BatchNormReLU6(16)(x)
    assert out[:, 3].isnan().all()
    assert not out[:, :3].isnan().any()


def test_results_do_not_change_from_call_to_call(threads):
    layer, norm = DepthwiseConv2d(48, 5), BatchNormReLU6(48)
    x = images(9, 48, 9, 9, grad=True)
    first, second = (
        torch.autograd.grad(norm(layer(x)).square().sum(), [x, layer.weight, norm.weight]) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def saved_bytes(run):
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    return out, sum(storages.values())


def test_frozen_weights_save_no_input_and_get_no_gradient():
    layer, x = DepthwiseConv2d(32, 3), images(8, 32, 8, 8, grad=True)
    layer.requires_grad_(False)
    out, saved = saved_bytes(lambda: layer(x))
    assert saved == layer.weight.numel() * 4
    out.sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_an_input_without_gradient_keeps_no_weights():
    layer, x = DepthwiseConv2d(32, 3), images(8, 32, 8, 8)
    out, saved = saved_bytes(lambda: layer(x))
    assert saved == x.numel() * 4
    out.sum().backward()
    assert layer.weight.grad is not None


def test_batch_norm_saves_its_input_alone():
    norm, x = BatchNormReLU6(32), images(8, 32, 8, 8, grad=True)
    _, saved = saved_bytes(lambda: norm(x))
    assert saved == 4 * (x.numel() + norm.weight.numel() * 4)


def test_frozen_batch_norm_passes_the_gradient_on():
    norm, x = BatchNormReLU6(32), images(8, 32, 8, 8, grad=True)
    expected = torch.autograd.grad(norm(x).square().sum(), x)[0]
    norm.requires_grad_(False)
    norm(x).square().sum().backward()
    assert norm.weight.grad is None
    assert torch.equal(x.grad, expected)


def test_without_gradients_nothing_is_recorded():
    layer, norm = DepthwiseConv2d(32, 3), BatchNormReLU6(32)
    x = images(4, 32, 8, 8)
    recorded = norm(layer(x))
    with torch.no_grad():
        out = norm(layer(x))
    assert out.grad_fn is None
    assert torch.equal(out, recorded)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.contiguous(),
        lambda x: x.double().contiguous(memory_format=LAST),
        lambda x: x[:, :8].contiguous(memory_format=LAST),
        lambda x: torch.cat((x, x), 1)[:, 1:33],
    ],
    ids=["contiguous", "double", "few channels", "a slice of channels"],
)
def test_what_the_kernels_do_not_take_goes_to_pytorch(change):
    x = change(images(4, 64, 6, 6)).requires_grad_()
    layer, norm = DepthwiseConv2d(x.shape[1], 5).to(x.dtype), BatchNormReLU6(x.shape[1]).to(x.dtype)
    plain, activation = plain_norm(norm)
    assert "ConvolutionBackward" in type(layer(x).grad_fn).__name__
    assert "HardtanhBackward" in type(norm(x).grad_fn).__name__
    expected = activation(plain.to(x.dtype)(plain_depthwise(x, layer)))
    assert far(norm(layer(x)), expected) < 1e-5


def test_autocast_goes_to_pytorch():
    layer, x = DepthwiseConv2d(32, 3), images(2, 32, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


def test_export_sees_pytorch_operations():
    module = nn.Sequential(DepthwiseConv2d(32, 5), BatchNormReLU6(32)).eval().to(memory_format=LAST)
    x = images(2, 32, 6, 6)
    exported = torch.export.export(module, (x,))
    targets = " ".join(str(node.target) for node in exported.graph.nodes)
    assert "conv2d" in targets
    assert "batch_norm" in targets
    assert far(exported.module()(x), module(x)) < 1e-5


def test_tracing_and_functional_transforms_see_pytorch_operations():
    module = nn.Sequential(DepthwiseConv2d(32, 3), BatchNormReLU6(32)).eval().to(memory_format=LAST)
    x = images(2, 32, 6, 6)
    traced = torch.jit.trace(module, (x,))
    assert "convolution" in str(traced.inlined_graph)
    gradient = torch.func.grad(lambda value: module(value).sum())(x)
    assert far(gradient, torch.autograd.grad(module(x.requires_grad_()).sum(), x)[0]) < 1e-5
    assert torch.fx.symbolic_trace(nn.Sequential(nn.ReLU())) is not None


def test_layers_copy_and_load_as_pytorch_layers():
    layer, norm = DepthwiseConv2d(32, 3), BatchNormReLU6(32)
    assert list(norm.state_dict()) == list(nn.BatchNorm2d(32).state_dict())
    again = copy.deepcopy(layer)
    again.load_state_dict(layer.state_dict())
    x = images(2, 32, 6, 6)
    assert torch.equal(again(x), layer(x))
