"""A network whose bits change between passes, so that scoring a policy takes no more than a pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from netsmith.compress.fake_quant import INPUT_QUANTIZER, fake_quantized
from netsmith.compress.precision import LayerBits


class Switched:
    """``module`` at any bits of ``layers``: what :func:`fake_quantized` gives, without finding ranges anew.

    ``batches`` (N, C, H, W) go through the module once for each of ``bits``; quantised weights and ranges of
    inputs of all of them are kept. ``codebooks`` and ``seed`` are as there. The module is left as it is.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        batches: Iterable[Tensor],
        *,
        bits: Sequence[int] = tuple(range(2, 9)),
        codebooks: bool = False,
        seed: int = 0,
    ) -> None:
        seen, self._bits = list(batches), dict[str, LayerBits]()
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        self._layers = {name: self._module.get_submodule(name) for name in layers}
        self._weights: dict[tuple[str, int], Tensor] = {}
        self._inputs: dict[tuple[str, int], nn.Module] = {}
        for each in bits:
            same = dict.fromkeys(layers, LayerBits(each, each))
            quantised = fake_quantized(module, same, seen, codebooks=codebooks, seed=seed)
            for name in layers:
                layer = quantised.get_submodule(name)
                self._weights[name, each] = cast(Tensor, layer.weight).detach().clone()
                self._inputs[name, each] = layer.get_submodule(INPUT_QUANTIZER)
        for name, layer in self._layers.items():
            layer.register_forward_pre_hook(
                lambda _, inputs, name=name: self._inputs[name, self._bits[name].inputs](inputs[0])
            )

    def at(self, bits: Mapping[str, LayerBits]) -> nn.Module:
        """Return the network at ``bits``, in evaluation mode, to be used before the next call of this."""
        self._bits = dict(bits)
        for name, layer in self._layers.items():
            cast(Tensor, layer.weight).copy_(self._weights[name, bits[name].weights])
        return self._module
