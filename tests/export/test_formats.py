"""A file of any format computes what the module does that it was written from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from netsmith.devices.device import Device, parse
from netsmith.devices.onnx_runtime import OnnxRuntime
from netsmith.devices.session import random_input
from netsmith.errors import DeviceError, ExportError
from netsmith.export.executorch import write_executorch
from netsmith.export.ncnn import write_ncnn
from netsmith.export.onnx import to_onnx
from netsmith.export.tflite import write_tflite
from netsmith.export.xnnpack_graph import MOST_IMAGES
from netsmith.nn.condense import LearnedGroupConv2d, condensing
from netsmith.nn.dense import Dense
from netsmith.nn.layers import BatchNormReLU
from netsmith.nn.network import Network
from netsmith.nn.preprocess import Normalize
from netsmith.plan import Block, Plan
from netsmith.spaces.condensenet import condensenet
from netsmith.spaces.dense import CONVS, DenseStage, dense
from netsmith.spaces.mbconv import mbconv
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.spaces.tree import LAYER, Branch, Node
from netsmith.transform.moves import break_symmetry, grow
from netsmith.transform.sites import sites_of, with_trees

PACKAGES = {"litert": "ai_edge_litert", "mnn": "_mnncengine"}
PLAN = Plan(
    (
        Block("conv", 1, 8, 8, 8, kernel=3, stride=2),
        Block("mbconv", 8, 8, 4, 4, kernel=5, hidden=24, shortcut=True),
        Block("head", 8, 4, 4, 4, hidden=16),
    )
)
SHAPE = (1, 10, 9)
# A cell of every convolution and norm, one behind the other, that ends with a norm.
DENSE = dense(SHAPE, 4, depth=len(CONVS) + 1, stages=[DenseStage(1, 8), DenseStage(1, 12)])
EVERYTHING = DENSE.plan(DENSE.arch((1, 5, 2, 1, 3, 3, 1, 6, 1, 4, 2, 2, 1)))
CONDENSED = condensenet(SHAPE, 4, (2, 1), (8, 16))
SHARES = Node(
    "concat", (Branch("separable 3"), Branch("max pool", Node("concat", (Branch(), Branch("conv 1")))))
)
MEAN = Node("add", (Branch("average pool"), Branch("separable 5"), Branch()))
# Of filters that all take the same, then of groups that take their share.
TREES = (
    Node("concat", (Branch(LAYER, SHARES), Branch(LAYER, MEAN))),
    Node(
        "concat", (Branch(LAYER, Node("concat", (Branch("separable 7"), Branch("max pool")))), Branch(LAYER))
    ),
)


def trained(plan: Plan) -> nn.Module:
    """A network as training could leave it: with statistics of its norms, and condensed."""
    torch.manual_seed(0)
    return left_by_training(Network(plan))


def grown() -> nn.Module:
    """A network of (N, 1, H, W) to (N, 4) with ``TREES`` in it, as training could leave it."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 11, 3, 2, 1), nn.BatchNorm2d(11), nn.ReLU(), nn.Conv2d(11, 6, 1), nn.ReLU6()]
    layers += [nn.Conv2d(6, 9, 3, padding=1, groups=3), BatchNormReLU(9)]
    base = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 4))
    network, trees = with_trees(base, sites_of(base).found)
    for tree, node in zip(trees.values(), TREES, strict=True):
        grow(tree, node)
        break_symmetry(tree, seed=0, noise=0.5)
    return left_by_training(network)


def left_by_training(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    for learned in condensing(network):
        learned.condense(1.0)
    return network.eval()


class Gate(nn.Module):
    """What squeeze-and-excitation does, numbers beside tensors, and a value that is read many times."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True))) + x
        return 1 - gated * 2.5 + x


class Joined(Gate):
    """The same beside itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True))) + x
        return torch.cat([gated, 1 - gated * 2.5, x - gated], 1)


class Parts(nn.Module):
    """A split that is gone through, one that is unpacked, one that is looked into, and channels in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 7, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        through = [part * (i + 0.5) for i, part in enumerate(torch.split(x, [1, 4, 2], 1))]
        one, other, rest = x.split(3, dim=1)
        last = torch.split(x, split_size_or_sections=(5, 2), dim=1)[-1]
        rows = torch.cat([x[:, 2:-2], x[:, 5:, :, :]], 1)
        return torch.cat([torch.cat(through, 1), rest, one + other, last, rows], 1)


Make = Callable[[], nn.Module]
# Of what the space is made, which every format has; what some have beyond; what fewer have.
COMMON: dict[str, Make] = {
    "without a bias": lambda: nn.Conv2d(3, 4, 3, bias=False),
    "dilated": lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2),
    "norm and ReLU6 behind": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()),
    "flattened": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)),
    "a head": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.ReLU()),
    "ReLU6": nn.ReLU6,
    "norm": lambda: nn.BatchNorm2d(3),
    "norm and ReLU": lambda: BatchNormReLU(3),
    "norm and ReLU of ours behind": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormReLU(4)),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1, groups=4), nn.ReLU()),
    "average of 2x2": lambda: nn.AvgPool2d(2),
    "average of 3x2 in steps of 2": lambda: nn.AvgPool2d((3, 2), 2),
    "average of 3x3 pixels alone": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "most of 3x3": lambda: nn.MaxPool2d(3, 1, 1),
    "two filters a channel": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "parts": Parts,
    "beside its input": lambda: Dense(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU())),
    "not to be condensed": lambda: LearnedGroupConv2d(3, 4, 2, 1),
}
MORE: dict[str, Make] = {"Hardswish": nn.Hardswish, "Identity": nn.Identity, "a gate": Gate}
MOST: dict[str, Make] = {
    "mean": lambda: nn.AdaptiveAvgPool2d(1),
    "MaxPool": lambda: nn.MaxPool2d(3, 2, 1),
    "AvgPool": lambda: nn.AvgPool2d(3, 2, 1),
    "AvgPool of pixels alone": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "Hardsigmoid": nn.Hardsigmoid,
    "joined": Joined,
}
LAYERS = {
    "litert": COMMON,
    "executorch": COMMON | MORE,
    "ncnn": COMMON | MORE | MOST,
    "torch": COMMON | MORE | MOST,
}
GROUPS = {"litert": (1, 2, 6), "executorch": (1, 2, 6), "ncnn": (1, 2, 6), "torch": (1, 2, 6)}
# ncnn transforms some kernels of many channels (Winograd), which rounds more.
BLOCK_ERROR = {"litert": 1e-5, "executorch": 1e-5, "ncnn": 2e-5, "torch": 1e-5}


def device_of(name: str) -> Device:
    runtime = name.partition(":")[0]
    pytest.importorskip(PACKAGES.get(runtime, runtime))
    return parse(name)


def worst(device: Device, module: nn.Module, shape: tuple[int, int, int], count: int = 3) -> float:
    """The largest difference of a pass on a device from one in PyTorch, over the largest output."""
    module.eval()
    x = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    got = device.prepare(device.export(module, shape), x)()
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("name", "groups"), [(name, g) for name, each in GROUPS.items() for g in each])
def test_convolutions_of_every_padding_are_equal(
    name: str, groups: int, kernel: int, stride: int, size: int
) -> None:
    device = device_of(name)
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=groups)
    assert worst(device, layer, (6, size, size)) < 1e-5


@pytest.mark.parametrize("size", [7, 8, 14])
def test_fast_convolutions_lose_little(size: int) -> None:
    """ncnn transforms 3x3 kernels of many channels (Winograd)."""
    device = device_of("ncnn")
    torch.manual_seed(0)
    assert worst(device, nn.Conv2d(32, 64, 3, padding=1), (32, size, size), 2) < 2e-5


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, of in LAYERS.items() for layer in of])
def test_layers_are_equal(name: str, layer: str) -> None:
    device = device_of(name)
    torch.manual_seed(0)
    assert worst(device, LAYERS[name][layer](), (3, 8, 8)) < 1e-5


@pytest.mark.parametrize("name", BLOCK_ERROR)
def test_every_block_of_a_space_is_equal(name: str) -> None:
    device = device_of(name)
    torch.manual_seed(0)
    for block in mbconv((1, 12, 12), 4, width=0.2).blocks:
        if block.op != "skip":
            off = worst(device, Network(Plan((block,))), block.input_shape, 1)
            assert off < BLOCK_ERROR[name], block.key


NETWORKS: dict[str, Make] = {
    "MBConv": lambda: trained(PLAN),
    "every layer": lambda: trained(EVERYTHING),
    "CondenseNet": lambda: trained(CONDENSED),
    "grown": grown,
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "mnn", *LAYERS])
def test_whole_networks_are_equal(name: str, network: str, caplog: pytest.LogCaptureFixture) -> None:
    assert worst(device_of(name), NETWORKS[network](), SHAPE) < 1e-5
    assert not caplog.records  # written directly


@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_averages_over_padding_are_refused(name: str) -> None:
    device = device_of(name)
    with pytest.raises(ExportError, match="over padding"):
        device.export(nn.AvgPool2d(3, 2, 1), (3, 8, 8))


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("litert", nn.MaxPool2d(3, 2, 1), r"pads \[1, 1, 1, 1\]"),
        ("litert", nn.MaxPool2d(3, 2, ceil_mode=True), "ceil_mode"),
        ("litert", nn.MaxPool2d(3, 1, dilation=2), "dilation"),
        ("executorch", nn.MaxPool2d(3, 2, ceil_mode=True), "ceil_mode"),
    ],
)
def test_windows_that_a_format_does_not_have_are_refused(name: str, layer: nn.Module, message: str) -> None:
    device = device_of(name)
    with pytest.raises(ExportError, match=message):
        device.export(layer, (3, 8, 8))


@pytest.mark.parametrize(
    ("name", "write"), [("litert", write_tflite), ("executorch", write_executorch), ("ncnn", write_ncnn)]
)
def test_slices_of_anything_but_channels_are_refused(name: str, write: Callable[..., bytes]) -> None:
    device_of(name)
    model = to_onnx(Parts(), (3, 8, 8))
    node = next(node for node in model.graph.node if node.op_type == "Slice")
    node.input[3] = "channel.5"  # the number of the axis
    with pytest.raises(ExportError, match="not of channels"):
        write(model)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("mnn", (1, 5)), ("ncnn", (1, 5)), ("executorch", (1, 5, MOST_IMAGES + 1)), ("torch", (1, 5))],
)
def test_a_whole_network_takes_pixels_and_any_number_of_images(name: str, numbers: Sequence[int]) -> None:
    device = device_of(name)
    torch.manual_seed(0)
    network = nn.Sequential(Normalize((0.5,), (0.25,)), Network(mobilenetv2((1, 28, 28), 10, 0.35))).eval()
    model = device.export(network, (1, 28, 28), input_type="uint8")
    assert device.input_of(model) == ((1, 28, 28), "uint8")
    for number in numbers:
        x = random_input((1, 28, 28), "uint8", number)
        with torch.no_grad():
            expected = network(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(device.prepare(model, x)(), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["executorch", "ncnn"])
def test_an_input_of_another_shape_or_type_is_refused(name: str) -> None:
    device = device_of(name)
    model = device.export(nn.ReLU(), (3, 4, 4))
    for x in (np.zeros((1, 2, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.uint8)):
        with pytest.raises(DeviceError, match=r"takes \(N, 3, 4, 4\) of float32"):
            device.prepare(model, x)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "name", ["openvino:precision=int8", "litert:precision=int8", "executorch:precision=int8"]
)
def test_integers_are_those_of_onnx_runtime_to_a_step(name: str, network: str) -> None:
    """Both files hold the same integers and scales: only rounding differs."""
    pytest.importorskip("onnxruntime")
    module = nn.Sequential(Normalize((0.5,), (0.25,)), NETWORKS[network]()).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    outputs = []
    for device in (OnnxRuntime(precision="int8"), device_of(name)):
        model = device.export(module, SHAPE, input_type="uint8", calibration=pixels)
        outputs.append(device.prepare(model, pixels)())
    exact = OnnxRuntime().export(module, SHAPE, input_type="uint8")
    expected = OnnxRuntime().prepare(exact, pixels)()
    step = (expected.max() - min(0, expected.min())) / 255
    assert np.abs(outputs[0] - outputs[1]).max() < 6 * step
    for got in outputs:
        assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_a_file_holds_a_byte_a_weight_and_what_was_noted(name: str) -> None:
    pytest.importorskip("onnxruntime")
    module, weights = nn.Conv2d(64, 256, 3), 64 * 256 * 9
    large, small = (
        device_of(f"{name}:precision={p}").export(module, (64, 8, 8), metadata={"netsmith.labels": "a, b"})
        for p in ("float32", "int8")
    )
    assert 4 * weights < len(large) < 4.2 * weights
    assert weights < len(small) < 1.2 * weights
    assert b"netsmith.labels" in small
    assert b"a, b" in small


@pytest.mark.parametrize("name", ["litert", "executorch", "ncnn"])
def test_the_same_network_is_written_the_same_twice(name: str) -> None:
    device = device_of(name)
    torch.manual_seed(0)
    module = Network(PLAN).eval()
    assert device.export(module, (1, 8, 8)) == device.export(module, (1, 8, 8))
