"""Learned group convolution: weights that condense while they train, and the form in which they are deployed.

After Huang et al. 2018, section 3. A 1x1 convolution begins dense. Its filters are of G groups, filter ``o``
of group ``o % G``; at ``C - 1`` moments of the first half of the training each group loses one in C of its
inputs, those of least weight, until one in C is left. What is left is a choice of inputs, a grouped
convolution, and a shuffle of what it gives.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from netsmith.errors import SpaceError


@runtime_checkable
class Condenses(Protocol):
    """A layer, or what holds many, that drops weights as its training goes on."""

    def condense(self, progress: float) -> None:
        """Drop what is due when a share ``progress`` of the training, 0..1, is done; nothing twice."""

    def lasso(self) -> torch.Tensor:
        """Return the group lasso: the sum, over groups and inputs, of the norm of the weights of each."""


@runtime_checkable
class Deploys(Protocol):
    """A module that is deployed in another form than it is trained in."""

    def deployed(self, select: bool) -> nn.Module:
        """Return that form: with choices of channels if ``select``, else with zeros in dense weights."""


def condensing(module: nn.Module) -> tuple[Condenses, ...]:
    """Return the parts of ``module`` that condense, in their order."""
    return tuple(part for part in module.modules() if isinstance(part, Condenses))


def deployed(module: nn.Module, *, select: bool = True) -> nn.Module:
    """Return ``module`` as it is deployed: itself where nothing in it has another form, else a copy.

    Weights that a learned group convolution has still to drop are dropped first, so that the form is the same
    at any moment of the training; the outputs are those of ``module`` once that has condensed to the end.
    With ``select`` such a convolution becomes a choice of channels and a grouped convolution; without, for
    runtimes that cannot choose channels cheaply, one of dense weights with zeros.
    """
    if isinstance(module, Deploys):
        return module.deployed(select)
    changed = {name: deployed(child, select=select) for name, child in module.named_children()}
    if all(changed[name] is child for name, child in module.named_children()):
        return module
    result = copy.copy(module)
    result._modules = {**module._modules, **changed}
    return result


class Select(nn.Module):
    """Channels by their number: (N, C, ...) -> (N, len(index), ...)."""

    index: torch.Tensor

    def __init__(self, index: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(1, self.index)


class _Condensing(nn.Module):
    """What learned convolutions and learned linear layers share; ``weight`` is (out, in, ...)."""

    weight: torch.Tensor
    mask: torch.Tensor

    def _start(self, groups: int, factor: int) -> None:
        outputs, inputs = self.weight.shape[:2]
        if min(groups, factor) < 1 or outputs % groups or inputs % factor:
            raise SpaceError(
                f"a learned group layer needs outputs that its groups divide and inputs that its condense "
                f"factor divides; got {outputs} outputs in {groups} groups, {inputs} inputs by {factor}"
            )
        self.filter_groups, self.factor = groups, factor
        self.register_buffer("mask", torch.ones(groups, inputs, dtype=torch.bool))

    def condense(self, progress: float) -> None:
        """Drop what is due at ``progress``: for i = 0..C-2, a step at (i + 1) / (2 (C - 1))."""
        due = min(self.factor - 1, int(2 * progress * (self.factor - 1) + 1e-9))
        if due < 1:
            return
        step = self.mask.shape[1] // self.factor
        lacking = due * step - int(self.mask.shape[1] - self.mask[0].sum())
        if lacking > 0:
            weights = self._by_input(self.weight.detach().abs()).masked_fill(~self.mask, torch.inf)
            self.mask.scatter_(1, weights.topk(lacking, 1, largest=False).indices, False)

    def lasso(self) -> torch.Tensor:
        squares = self._by_input(self.masked_weight().square())
        return squares.clamp(min=1e-6).sqrt().sum()

    def masked_weight(self) -> torch.Tensor:
        """Return the weights, those that were dropped as zeros."""
        return self.weight * self._spread(self.mask)

    def kept(self) -> torch.Tensor:
        """Return (G, in / C) the inputs that each group keeps when it has condensed to the end, ascending."""
        weights = self._by_input(self.weight.detach().abs()).masked_fill(~self.mask, -1.0)
        return weights.topk(weights.shape[1] // self.factor, 1).indices.sort(1).values

    def final_weight(self) -> torch.Tensor:
        """Return the weights as they are when it has condensed to the end."""
        mask = torch.zeros_like(self.mask).scatter_(1, self.kept(), True)
        return self.weight.detach() * self._spread(mask)

    def _spread(self, mask: torch.Tensor) -> torch.Tensor:
        """Give each filter the mask of its group: (G, in) -> (out, in, 1, ...)."""
        rows = mask.repeat(len(self.weight) // self.filter_groups, 1)
        return rows.view(*rows.shape, *(1,) * (self.weight.ndim - 2))

    def _by_input(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values like the weights over the filters of each group: (out, in, 1, ...) -> (G, in)."""
        return values.reshape(-1, *self.mask.shape).sum(0)


class LearnedGroupConv2d(_Condensing, nn.Conv2d):
    """A 1x1 convolution without bias that learns the inputs of its groups: (N, in, H, W) -> (N, out, H, W).

    Raises :class:`SpaceError` where ``groups`` does not divide the outputs or ``factor`` the inputs.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, factor: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)
        self._start(groups, factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.masked_weight())

    def deployed(self, select: bool) -> nn.Module:
        """Return the choice of inputs, the grouped convolution and the shuffle; or a dense convolution."""
        if not select:
            return self.dense()
        index, convolution, order = self.grouped()
        return nn.Sequential(Select(index), convolution, Select(order.argsort()))

    def dense(self) -> nn.Conv2d:
        """Return the convolution of dense weights, with zeros."""
        return convolution_of(self.final_weight(), 1)

    def grouped(self) -> tuple[torch.Tensor, nn.Conv2d, torch.Tensor]:
        """Return the inputs to choose, the convolution of them, and which output of ours each of its is."""
        order = torch.arange(self.out_channels, device=self.weight.device)
        order = order.view(-1, self.filter_groups).t().flatten()
        kept = self.kept()
        rows = kept.repeat_interleave(self.out_channels // self.filter_groups, 0)
        weight = self.weight.detach()[order, :, 0, 0].gather(1, rows)
        return kept.flatten(), convolution_of(weight[:, :, None, None], self.filter_groups), order


class LearnedLinear(_Condensing, nn.Linear):
    """A linear layer that learns which inputs to do without: (N, in) -> (N, out)."""

    def __init__(self, in_features: int, out_features: int, factor: int) -> None:
        super().__init__(in_features, out_features)
        self._start(1, factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.masked_weight(), self.bias)

    def deployed(self, select: bool) -> nn.Module:
        """Return the choice of inputs and a linear layer of them; or one of all, with zeros."""
        if not select:
            return _linear_of(self.final_weight(), self.bias)
        (kept,) = self.kept()
        return nn.Sequential(Select(kept), _linear_of(self.weight.detach()[:, kept], self.bias))


def convolution_of(weight: torch.Tensor, groups: int, stride: int = 1) -> nn.Conv2d:
    """Return the convolution without bias of these weights (out, in / groups, K, K), padding ``K // 2``."""
    out, inner, kernel, _ = weight.shape
    with torch.device("meta"):
        layer = nn.Conv2d(inner * groups, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return layer


def _linear_of(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def reordered(layers: Iterator[nn.Module], select: bool) -> Iterator[nn.Module]:
    """Yield a chain of layers as it is deployed, the shuffle of each grouped output carried along.

    A norm, a depthwise and a dense convolution take their numbers in the order that their input has, which
    costs nothing; before any other layer, and at the end, the order is set right.
    """
    order: torch.Tensor | None = None  # which channel of ours stands at each place
    for layer in layers:
        if isinstance(layer, LearnedGroupConv2d) and select:
            index, convolution, after = layer.grouped()
            yield Select(index if order is None else order.argsort()[index])
            yield convolution
            order = after
        elif isinstance(layer, LearnedGroupConv2d):
            yield layer.dense()
        elif order is None or isinstance(layer, nn.BatchNorm2d):
            yield layer if order is None else _norm_in_order(layer, order)
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1:
            yield convolution_of(layer.weight.detach()[:, order], 1)
            order = None
        elif isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels:
            yield convolution_of(layer.weight.detach()[order], layer.groups)
        else:
            yield Select(order.argsort())
            yield layer
            order = None
    if order is not None:
        yield Select(order.argsort())


def _norm_in_order(norm: nn.Module, order: torch.Tensor) -> nn.Module:
    result = copy.deepcopy(norm)
    with torch.no_grad():
        for tensor in (*result.parameters(), *result.buffers()):
            if tensor.ndim == 1:
                tensor.copy_(tensor[order])
    return result
