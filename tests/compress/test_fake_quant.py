"""Few bits in a whole module: by hand on one layer, near the float one at 8, regained by fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.fake_quant import at_levels, fake_quantized, layer_shapes, packed, restored
from netsmith.compress.packing import unpack
from netsmith.compress.precision import LayerBits
from netsmith.errors import CompressionError
from netsmith.nn.network import Network
from netsmith.spaces.mbconv import mbconv


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


LAYERS = ("0", "3", "6", "11")


def all_at(bits: int) -> dict[str, LayerBits]:
    return dict.fromkeys(LAYERS, LayerBits(bits, bits))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images / 8 - 1).float().reshape(-1, 1, 8, 8)
    y = torch.from_numpy(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1300], order[1300:]
    return x[train], y[train], x[test], y[test]


def train(module: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float) -> None:
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), rate)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(65):
            optimizer.zero_grad()
            F.cross_entropy(module(x[rows]), y[rows]).backward()
            optimizer.step()


def accuracy(module: nn.Module, x: Tensor, y: Tensor) -> float:
    module.eval()
    with torch.no_grad():
        return float((module(x).argmax(1) == y).float().mean())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    module = small()
    x, y, _, _ = digits()
    train(module, x, y, 20, 0.01)
    return module.eval()


def test_one_layer_by_hand() -> None:
    """Levels of 2 bits are -c, 0, c; inputs of 2 bits 0, 1/3, 2/3, 1 of the greatest."""
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, -0.6, 0.4]])
    x = torch.tensor([[3.0, 1.4, 0.4]])
    quantized = fake_quantized(layer, {"": LayerBits(2, 2)}, [x], ranges="max")
    assert quantized(x).item() == 3 * 1 + 1 * -1 + 0 * 0
    assert quantized(torch.tensor([[9.0, 0, 1.6]])).item() == 3  # clipped to the greatest that arrived
    assert torch.equal(layer.weight, torch.tensor([[1.0, -0.6, 0.4]]))


def test_eight_bits_are_near_and_fewer_farther(trained: nn.Module) -> None:
    x, _, held, _ = digits()
    missed = []
    for bits in (8, 6, 4, 3):
        quantized = fake_quantized(trained, all_at(bits), [x[:200]], ranges="mse").eval()
        with torch.no_grad():
            missed.append(float((quantized(held) - trained(held)).square().mean() / trained(held).var()))
    assert missed[0] < 1e-3
    assert missed == sorted(missed)


def test_the_float_module_is_left_as_it_was(trained: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    trained.train()
    quantized = fake_quantized(trained, all_at(2), [digits()[0][:50]])
    assert trained.training
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    assert not any(layer._forward_hooks for layer in (*trained.modules(), *quantized.modules()))
    assert torch.equal(quantized[1].running_mean, trained[1].running_mean)
    trained.eval()


def test_gradients_flow_through_two_bits(trained: nn.Module) -> None:
    x, y, _, _ = digits()
    for codebooks in (False, True):
        module = fake_quantized(trained, all_at(2), [x[:100]], codebooks=codebooks).train()
        F.cross_entropy(module(x[:100]), y[:100]).backward()
        names = [name for name, parameter in module.named_parameters() if parameter.grad is not None]
        assert names == [name for name, _ in module.named_parameters()]
        for layer in LAYERS:
            assert module.get_parameter(f"{layer}.parametrizations.weight.original").grad.abs().sum() > 0
            assert module.get_parameter(f"{layer}.input_quantizer.high").grad is not None
        # Only the image has negative numbers.
        assert [name for name in names if name.endswith("low")] == ["0.input_quantizer.low"]


@pytest.mark.parametrize("codebooks", [False, True])
def test_fine_tuning_regains_what_few_bits_lost(trained: nn.Module, codebooks: bool) -> None:
    x, y, held, truth = digits()
    before = accuracy(trained, held, truth)
    bits = all_at(3) | {"0": LayerBits(8, 8), "11": LayerBits(8, 8)}  # as published
    module = fake_quantized(trained, bits, [x[:300]], ranges="mse", codebooks=codebooks)
    lost = accuracy(module, held, truth)
    train(module, x, y, 8, 0.003)
    regained = accuracy(module, held, truth)
    assert before > 0.92
    assert lost < before - 0.08
    assert regained > before - 0.06
    values = [len(module.get_submodule(name).weight.unique()) for name in LAYERS]
    assert max(values[1:3]) <= (8 if codebooks else 7)


@pytest.mark.parametrize("codebooks", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_is_packed_gives_the_same_outputs(
    trained: nn.Module, codebooks: bool, per_channel: bool
) -> None:
    x, y, held, _ = digits()
    bits = dict(zip(LAYERS, map(LayerBits, (8, 2, 3, 5), (8, 3, 4, 6)), strict=True))
    module = fake_quantized(trained, bits, [x[:100]], per_channel=per_channel, codebooks=codebooks)
    train(module, x[:130], y[:130], 1, 0.003)
    content = packed(module.eval())
    back = restored(small(9), content).eval()
    with torch.no_grad():
        assert torch.equal(back(held), module(held))
    coded, _ = unpack(content)
    assert {name: weight.bits for name, weight in coded.items()} == {
        f"{name}.weight": of.weights for name, of in bits.items()
    }
    assert torch.equal(coded["6.weight"].weight(), module[6].weight)


def test_the_file_shrinks_with_the_bits(trained: nn.Module) -> None:
    x = digits()[0][:50]
    sizes = [len(packed(fake_quantized(trained, all_at(bits), [x]))) for bits in (2, 4, 8)]
    weights = 12 * 9 + 12 * 9 + 24 * 12 + 240
    assert np.diff(sizes) == pytest.approx([weights * 2 / 8, weights * 4 / 8], abs=16)  # headers align to 8


def test_a_network_of_netsmiths_own_blocks_is_quantised_whole() -> None:
    """Its blocks look into their depthwise convolutions to run several layers at once, past their hooks."""
    space = mbconv((3, 16, 16), 4)
    torch.manual_seed(0)
    network = Network(space.plan(space.sample(Random(0)))).eval()
    x = torch.randn(6, 3, 16, 16)
    shapes = layer_shapes(network, x)
    bits = {name: LayerBits(8, 8) for name in shapes}
    module = fake_quantized(network, bits, [x]).eval()
    with torch.no_grad():
        missed = (module(x) - network(x)).square().mean() / network(x).var()
        coarse = fake_quantized(network, dict.fromkeys(shapes, LayerBits(8, 2)), [x]).eval()(x)
    assert missed < 0.05
    assert (coarse - network(x)).square().mean() > 10 * missed * network(x).var()
    module.train()
    module(x).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert sum(shape.groups > 1 for shape in shapes.values()) > 3


def test_shapes_are_those_of_the_calls() -> None:
    shapes = layer_shapes(small(), torch.zeros(1, 1, 8, 8))
    assert list(shapes) == list(LAYERS)
    assert list(shapes.values()) == [
        ConvShape(1, 12, 3, out_size=8),
        ConvShape(12, 12, 3, 2, groups=12, out_size=4),
        ConvShape(12, 24, out_size=4),
        ConvShape(24, 10),
    ]
    with pytest.raises(CompressionError, match=r"kernel \(3, 1\)"):
        layer_shapes(nn.Conv2d(1, 1, (3, 1)), torch.zeros(1, 1, 8, 8))


def refused(module: nn.Module, bits: dict[str, LayerBits], batches: Sequence[Tensor], match: str) -> None:
    with pytest.raises(CompressionError, match=match):
        fake_quantized(module, bits, batches)


def test_what_cannot_be_quantised_is_refused(trained: nn.Module) -> None:
    x = torch.zeros(2, 1, 8, 8)
    refused(trained, {"1": LayerBits(8, 8)}, [x], r"given for \['1'\]; .* are \['0', '3', '6', '11'\]")
    refused(trained, {}, [x], "no layer")
    refused(trained, all_at(8), [], "no input arrives at")
    refused(trained, {"0": LayerBits(1, 8)}, [x], r"2\.\.8; got 1")
    refused(trained, {"0": LayerBits(8, 0)}, [x], r"1\.\.8; got 0")
    refused(trained, all_at(8), [x * float("nan")], "finite")
    refused(fake_quantized(trained, all_at(8), [x]), all_at(4), [x], r"not quantised yet are \[\]")
    with pytest.raises(CompressionError, match="no layer of the module is quantised"):
        packed(trained)


def test_files_of_other_modules_are_refused(trained: nn.Module) -> None:
    content = packed(fake_quantized(trained, all_at(4), [digits()[0][:20]]))
    other = copy.deepcopy(trained)
    other[11] = nn.Linear(24, 5)
    with pytest.raises(CompressionError, match="another module"):
        restored(other, content)
    with pytest.raises(CompressionError, match="another module"):
        restored(nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False)), content)
    with pytest.raises(CompressionError, match="damaged"):
        restored(trained, content[:-3])


def test_what_was_learned_is_handed_over_at_its_levels(network: Callable[..., nn.Module]) -> None:
    """A file with ranges of its own, as they were found at first, computes what was trained."""
    module = network("residual")
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    bits = dict.fromkeys(list(layer_shapes(module, x))[1:], LayerBits(8, 8))
    trained = fake_quantized(module, bits, [x], ranges="max", per_channel=True)
    with torch.no_grad():
        for parameter in trained.parameters():
            if parameter.ndim == 4:  # a little that rounding takes away again, and the greatest stays
                parameter[parameter.abs() < 0.5 * parameter.abs().max()] *= 1.0001
    plain = at_levels(trained, module)
    assert {*plain.state_dict()} == {*module.state_dict()}
    again = fake_quantized(plain, bits, [x], ranges="max", per_channel=True).eval()
    for name in bits:
        assert torch.equal(plain.get_submodule(name).weight, trained.get_submodule(name).weight)
        assert torch.allclose(
            again.get_submodule(name).weight, trained.get_submodule(name).weight, rtol=1e-5, atol=1e-7
        )
