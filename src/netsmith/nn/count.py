"""Counting what a module costs: multiply-adds, parameters, bytes of weights and of activations.

A table says what each operation of PyTorch costs; what is in no table is reported, never taken for
free in silence. One MAC is one multiply-add. Nothing is computed: tensors have shapes and no data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from netsmith.errors import SpaceError
from netsmith.nn.blocks import build_block
from netsmith.nn.condense import deployed
from netsmith.plan import Block, Plan


@dataclass(frozen=True, slots=True)
class Counts:
    """What one pass over one image costs, and what the weights take as float32.

    ``peak_activation_bytes`` is the most that activations hold at once, each from the operation
    that makes it to the last that reads it, pointwise operations writing over what they read.
    What condenses is counted condensed, as it is deployed (see :func:`netsmith.nn.condense.deployed`).
    ``elements`` is what the published CondenseNets count beside MACs: values that a ReLU gives and that
    pooling reads, and biases of linear layers. ``uncounted`` names operations that no table knows, with how
    often each ran: their MACs are missing.
    """

    macs: int
    params: int
    peak_activation_bytes: int
    elements: int = 0
    uncounted: Mapping[str, int] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of the parameters as float32."""
        return 4 * self.params

    @property
    def condensenet_flops(self) -> int:
        """What the code of CondenseNet calls FLOPs: MACs and ``elements``, without batch norms."""
        return self.macs + self.elements


def _convolution(inputs: Sequence[Any], output: torch.Tensor) -> int:
    """Each output needs one filter's weights; transposed, each input does. Bias is not counted."""
    x, weight, transposed = inputs[0], inputs[1], bool(inputs[6])
    places: int = (x if transposed else output).numel()
    return places * int(prod(weight.shape[1:]))


def _matrix_product(first: int) -> Callable[[Sequence[Any], torch.Tensor], int]:
    """Of (..., m, k), the input at ``first``, with (..., k, n): every output is a sum of k products."""
    return lambda inputs, output: output.numel() * int(inputs[first].shape[-1])


# Operations of the namespace aten, without their overloads.
MACS: dict[str, Callable[[Sequence[Any], torch.Tensor], int]] = {
    "convolution": _convolution,
    "mm": _matrix_product(0),
    "bmm": _matrix_product(0),
    "addmm": _matrix_product(1),
    "baddbmm": _matrix_product(1),
}


def _output(inputs: Sequence[Any], output: torch.Tensor) -> int:
    return output.numel()


def _windows(inputs: Sequence[Any], output: torch.Tensor) -> int:
    """Each output of a pooling reads a window of (K, K)."""
    kernel = inputs[1]
    return output.numel() * int(kernel[0] * kernel[-1])


def _first_input(inputs: Sequence[Any], output: torch.Tensor) -> int:
    return int(inputs[0].numel())


# What counts one for each value in :attr:`Counts.elements`.
ELEMENTS: dict[str, Callable[[Sequence[Any], torch.Tensor], int]] = {
    "relu": _output,
    "relu_": _output,
    "avg_pool2d": _windows,
    "mean": _first_input,
    "addmm": _first_input,  # the bias
}

# No multiply-adds by the customary rule, and the output may stand where the input stood.
POINTWISE = frozenset({
    "add", "add_", "sub", "mul", "mul_", "div", "native_batch_norm", "cudnn_batch_norm",
    "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "hardtanh", "hardtanh_",
    "relu", "relu_", "clamp", "clamp_", "clamp_min", "sigmoid", "hardsigmoid", "hardswish",
    "hardswish_", "silu", "gelu", "leaky_relu", "tanh", "exp", "neg", "native_dropout", "bernoulli_",
    "_softmax", "_log_softmax",
})  # fmt: skip

# No multiply-adds: pooling, reductions, changes of shape and layout, constants.
FREE = frozenset({
    "mean", "sum", "amax", "max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d", "cat", "stack", "view", "_unsafe_view", "reshape", "alias", "t",
    "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "split", "clone",
    "copy_", "_to_copy", "detach", "constant_pad_nd", "empty", "empty_like", "zeros", "zeros_like",
    "ones", "full", "scalar_tensor", "arange", "channel_shuffle", "native_channel_shuffle",
    "lift_fresh", "index_select",
})  # fmt: skip


def count(module: nn.Module, input_shape: tuple[int, int, int]) -> Counts:
    """Count one pass of ``module``, at evaluation, over one float32 image of ``input_shape`` (C, H, W)."""
    module = deployed(module)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    image = torch.empty((1, *input_shape), device="meta")
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    recorder = _Recorder(image, shapes.values())
    try:
        with torch.no_grad(), recorder:
            output = functional_call(module, shapes, (image,))
    finally:
        for layer, training in modes.items():
            layer.training = training
    params = sum(parameter.numel() for parameter in module.parameters())
    return Counts(
        recorder.macs, params, recorder.peak_bytes(output), recorder.elements, dict(recorder.uncounted)
    )


@lru_cache(maxsize=65536)
def count_block(block: Block) -> Counts:
    """Count one block of a plan; each distinct block is counted once in a process."""
    with torch.device("meta"):
        module = build_block(block)
    return count(module, block.input_shape)


def macs_of(block: Block) -> int:
    """Return the multiply-adds of a block: of a sum those of its operations, each counted once."""
    return sum(count_block(part).macs for part in block.parts or (block,))


def count_plan(plan: Plan) -> Counts:
    """Count the network of a plan, block by block.

    Raises :class:`netsmith.errors.SpaceError` on a plan without blocks.
    """
    if not plan.blocks:
        raise SpaceError("a plan without blocks cannot be counted")
    counts = [count_block(block) for block in plan.blocks]
    uncounted: Counter[str] = Counter()
    for each in counts:
        uncounted.update(each.uncounted)
    return Counts(
        sum(c.macs for c in counts),
        sum(c.params for c in counts),
        max(c.peak_activation_bytes for c in counts),  # a chain: one tensor passes between blocks
        sum(c.elements for c in counts),
        dict(uncounted),
    )


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up MACs, and notes which operation makes and which reads every activation."""

    def __init__(self, image: torch.Tensor, constants: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.elements = 0
        self.uncounted: Counter[str] = Counter()
        self._constants = {_storage(tensor) for tensor in constants}
        self._kept = [image]  # so that no two activations get the same storage
        self._steps: list[tuple[list[int], list[int], bool]] = []  # read, written, pointwise
        self._bytes = {_storage(image): _size(image)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = str(func.name()).removeprefix("aten::").partition(".")[0]
        if name in MACS:
            self.macs += MACS[name](args, output)
        elif name not in POINTWISE and name not in FREE:
            self.uncounted[name] += 1
        if name in ELEMENTS:
            self.elements += ELEMENTS[name](args, output)
        self._note(tree_leaves((args, kwargs)), tree_leaves(output), name in POINTWISE)
        return output

    def _note(self, inputs: list[Any], outputs: list[Any], pointwise: bool) -> None:
        read = [_storage(t) for t in inputs if isinstance(t, torch.Tensor)]
        written = [t for t in outputs if isinstance(t, torch.Tensor)]
        written = written[:1] if pointwise else written  # batch norm also returns its statistics
        self._kept += written
        for tensor in written:
            self._bytes.setdefault(_storage(tensor), _size(tensor))
        self._steps.append(
            ([s for s in read if s not in self._constants], [_storage(t) for t in written], pointwise)
        )

    def peak_bytes(self, output: Any) -> int:
        """Return the most bytes alive at once, after everything has run."""
        last: dict[int, int] = {_storage(self._kept[0]): 0}
        for step, (read, written, _) in enumerate(self._steps):
            last.update(dict.fromkeys([*read, *written], step))
        end = len(self._steps)
        last.update({_storage(t): end for t in tree_leaves(output) if isinstance(t, torch.Tensor)})
        alive = {_storage(self._kept[0])}
        peak = sum(self._bytes[s] for s in alive)
        for step, (read, written, pointwise) in enumerate(self._steps):
            new = set(written) - alive
            dying = {s for s in read if s in alive and last[s] == step}
            if pointwise and new:  # one that dies here lends its memory
                alive -= {s for s in list(dying)[:1] if self._bytes[s] >= sum(self._bytes[n] for n in new)}
            alive |= new
            peak = max(peak, sum(self._bytes[s] for s in alive))
            alive = {s for s in alive if last[s] > step}
        return peak


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
