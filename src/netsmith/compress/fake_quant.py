"""A module whose layers compute with few bits, in float: to score a policy, fine-tune it, and hand it over.

Weights are parametrised and inputs quantised by a hook, so that layers stay of their class and blocks that
look into them go on working. Gradients pass straight through.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.packing import Coded, pack, unpack
from netsmith.compress.precision import LayerBits
from netsmith.compress.quantizers import (
    channelwise,
    checked_bits,
    clustered,
    quantized_activation,
    quantized_weight,
    shared_weight,
    symmetric,
)
from netsmith.compress.ranges import activation_range, weight_limits
from netsmith.errors import CompressionError

SAMPLES = 2**18  # numbers of a layer's inputs that are kept of a batch, to find its range
INPUT_QUANTIZER = "input_quantizer"


def layer_shapes(module: nn.Module, x: Tensor) -> dict[str, ConvShape]:
    """Return the shape of each convolution and linear layer that ``module(x)`` calls, in that order.

    Raises :class:`CompressionError` on one that is not square.
    """
    shapes: dict[str, ConvShape] = {}

    def note(name: str, layer: nn.Module, into: Tensor, out: Tensor) -> None:
        if name not in shapes:
            shapes[name] = _shape(name, layer, out)

    with _listening(module, note), _evaluating(module):
        module(x)
    return shapes


def fake_quantized(
    module: nn.Module,
    bits: Mapping[str, LayerBits],
    batches: Iterable[Tensor],
    *,
    ranges: str = "mse",
    per_channel: bool = False,
    codebooks: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Return a copy of ``module`` whose layers named in ``bits`` have weights and inputs of so many bits.

    ``batches`` (N, C, H, W) go through the float module, and ranges of inputs are found of what arrives; they
    are parameters, learned with the weights (HAQ's are too). ``ranges`` is a method of :mod:`ranges`; the
    default lost less than HAQ's before fine-tuning and mostly after it, on digits. Weights have levels, one
    step size each or one ``per_channel``, that stay as they were found; with ``codebooks`` they share 2^bits
    values found by k-means from ``seed``, which fine-tuning moves. Weights of 1 bit need a codebook.

    Raises :class:`CompressionError` on names that are not layers of the module or are quantised already,
    layers that no batch reaches, and bits that are not possible.
    """
    copied = copy.deepcopy(module)
    layers = dict(_layers(copied))
    free = [name for name, layer in layers.items() if not parametrize.is_parametrized(layer)]
    unknown = sorted(set(bits) - set(free))
    if unknown or not bits:
        raise CompressionError(
            f"bits are given for {unknown or 'no layer'}; the module's convolutions and linear layers that "
            f"are not quantised yet are {free}"
        )
    arriving = _arriving(copied, set(bits), batches)
    for name, layer in layers.items():
        if name in bits:
            low, high = activation_range(arriving[name], bits[name].inputs, ranges)
            _quantize_inputs(layer, low, high, bits[name].inputs)
            weight = _weight_of(layer)
            way = (
                _SharedWeight(weight, bits[name].weights, seed)
                if codebooks
                else _LevelWeight(weight, bits[name].weights, ranges, per_channel)
            )
            parametrize.register_parametrization(layer, "weight", way)
    return copied


def packed(module: nn.Module) -> bytes:
    """Return the file of a module that :func:`fake_quantized` made: weights by codes, all else as it is."""
    coded = {
        _within(name, "weight"): _coded(layer)
        for name, layer in _layers(module)
        if parametrize.is_parametrized(layer, "weight")
    }
    plain = {
        name: tensor for name, tensor in module.state_dict().items() if ".parametrizations." not in f".{name}"
    }
    if not coded:
        raise CompressionError("no layer of the module is quantised; quantise it by fake_quantized first")
    return pack(plain | {name: weight.weight() for name, weight in coded.items()}, coded)


def restored(module: nn.Module, content: bytes) -> nn.Module:
    """Return a copy of the float ``module`` with what :func:`packed` wrote; its outputs are equal.

    Weights are float32 numbers of few different values, inputs are quantised. Raises
    :class:`CompressionError` for a damaged file and one of another module.
    """
    coded, plain = unpack(content)
    copied = copy.deepcopy(module)
    for name, layer in dict(_layers(copied)).items():
        found = [plain.get(_within(name, f"{INPUT_QUANTIZER}.{part}")) for part in ("bits", "low", "high")]
        if found[0] is not None:
            bits, low, high = _checked_range(name, found)
            _quantize_inputs(layer, low, high, bits)
    try:
        copied.load_state_dict(plain | {name: weight.weight() for name, weight in coded.items()}, strict=True)
    except RuntimeError as error:
        raise CompressionError(f"the packed weights are of another module: {error!s:.500}") from error
    return copied


def at_levels(quantized: nn.Module, module: nn.Module) -> nn.Module:
    """Return a copy of the float ``module`` with what ``quantized`` learned, and its weights at their levels.

    For a file that finds ranges of its own: of levels that were found by ``max`` it rounds these weights to
    what they are, where the greatest of a channel still is at its greatest level. Weights as they were
    before the rounding would come to other levels than those that were trained.
    """
    state = {
        name: tensor
        for name, tensor in quantized.state_dict().items()
        if ".parametrizations." not in f".{name}" and f".{INPUT_QUANTIZER}." not in f".{name}"
    }
    for name, layer in _layers(quantized):
        if parametrize.is_parametrized(layer, "weight"):
            state[_within(name, "weight")] = _weight_of(layer)
    copied = copy.deepcopy(module)
    copied.load_state_dict(state, strict=True)
    return copied


class _LevelWeight(nn.Module):
    """A weight by the nearest of symmetric levels, whose range stays."""

    def __init__(self, weight: Tensor, bits: int, ranges: str, per_channel: bool) -> None:
        super().__init__()
        self.bits = bits
        limits = weight_limits(weight, bits, ranges, per_channel=per_channel)
        self.register_buffer("limits", channelwise(limits, weight))

    def forward(self, weight: Tensor) -> Tensor:
        return quantized_weight(weight, symmetric(cast(Tensor, self.limits), self.bits))

    def coded(self, weight: Tensor) -> Coded:
        return Coded.of_levels(weight, symmetric(cast(Tensor, self.limits), self.bits), self.bits)


class _SharedWeight(nn.Module):
    """A weight by the mean of its cluster; who is in which stays."""

    def __init__(self, weight: Tensor, bits: int, seed: int) -> None:
        super().__init__()
        self.bits = bits
        book = clustered(weight, bits, seed)
        self.size = len(book.centroids)
        self.register_buffer("codes", book.codes)

    def forward(self, weight: Tensor) -> Tensor:
        return shared_weight(weight, cast(Tensor, self.codes), self.size)

    def coded(self, weight: Tensor) -> Coded:
        codes = cast(Tensor, self.codes)
        values = self(weight.detach()).flatten()
        centroids = values.new_zeros(self.size).index_put((codes.flatten().long(),), values)
        return Coded("codebook", self.bits, codes, centroids)


class _InputQuantizer(nn.Module):
    """Clips inputs to a learned range and brings them to its levels; a range that begins at 0 stays there."""

    def __init__(self, low: Tensor, high: Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("bits", torch.tensor(checked_bits(bits), dtype=torch.uint8))
        self.high = nn.Parameter(high.clone())
        if low == 0:
            self.register_buffer("low", low.clone())
        else:
            self.low = nn.Parameter(low.clone())

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.low.clamp_max(0), self.high.clamp_min(0)
        return quantized_activation(x, low, high, int(cast(Tensor, self.bits)))


def _quantize_inputs(layer: nn.Module, low: Tensor, high: Tensor, bits: int) -> None:
    layer.add_module(INPUT_QUANTIZER, _InputQuantizer(low, high, bits))
    layer.register_forward_pre_hook(_by_levels)


def _checked_range(name: str, found: list[Tensor | None]) -> tuple[int, Tensor, Tensor]:
    """Return bits and range of a file, if they are what :class:`_InputQuantizer` has."""
    scalars = [tensor for tensor in found if tensor is not None and tensor.ndim == 0]
    if [tensor.dtype for tensor in scalars] == [torch.uint8, torch.float32, torch.float32]:
        bits, low, high = scalars
        if bool(torch.isfinite(high - low)):
            return checked_bits(int(bits)), low, high
    raise CompressionError(f"the packed range of {name!r}'s inputs is damaged. Write the file anew")


def _by_levels(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (layer.get_submodule(INPUT_QUANTIZER)(inputs[0]), *inputs[1:])


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            yield name, layer


def _within(name: str, part: str) -> str:
    """Return the name of a layer's part; the module itself may be the layer, whose name is empty."""
    return f"{name}.{part}" if name else part


def _weight_of(layer: nn.Module) -> Tensor:
    return cast(Tensor, layer.weight).detach()


def _coded(layer: nn.Module) -> Coded:
    ways = cast(Any, layer).parametrizations["weight"]
    coded: Coded = ways[0].coded(ways.original)
    return coded


def _arriving(module: nn.Module, names: set[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return some of the numbers that arrive at each layer, the least and the greatest among them."""
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str, layer: nn.Module, into: Tensor, out: Tensor) -> None:
        if name in names:
            flat = into.detach().flatten()
            some = flat[:: max(1, flat.numel() // SAMPLES)]
            kept[name].append(torch.cat([some, flat.amin()[None], flat.amax()[None]]))

    with _listening(module, keep), _evaluating(module):
        for batch in batches:
            module(batch)
    missed = sorted(name for name, found in kept.items() if not found)
    if missed:
        raise CompressionError(
            f"no input arrives at {missed}, whose range is to be found; give at least one batch, and bits "
            "for layers that the module calls"
        )
    return {name: torch.cat(found) for name, found in kept.items()}


@contextmanager
def _listening(module: nn.Module, hear: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Call ``hear`` with name, layer, input and output of each call of a convolution or linear layer."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, out: hear(name, layer, inputs[0], out)

    handles = [layer.register_forward_hook(hook_of(name)) for name, layer in _layers(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients; each part of the module is in its own mode again afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _shape(name: str, layer: nn.Module, out: Tensor) -> ConvShape:
    if isinstance(layer, nn.Linear):
        return ConvShape(layer.in_features, layer.out_features)
    assert isinstance(layer, nn.Conv2d)
    sizes = (layer.kernel_size, layer.stride, tuple(out.shape[2:]))
    if any(height != width for height, width in sizes):
        raise CompressionError(
            f"{name!r} has kernel {sizes[0]}, stride {sizes[1]} and maps of {sizes[2]}; "
            "the shapes that costs are simulated of are square"
        )
    kernel, stride, size = (int(pair[0]) for pair in sizes)
    return ConvShape(layer.in_channels, layer.out_channels, kernel, stride, layer.groups, size)
