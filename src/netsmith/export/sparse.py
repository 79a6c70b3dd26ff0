"""Layers that hold their weights as compressed sparse rows, so that zeros are not multiplied."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import nn

# From this share of zeros on, compressed rows of float32 with an index of 4 bytes each are no larger.
SPARSE = 0.5


def compressed(layer: nn.Module) -> nn.Module:
    """Return a layer, or a sequence of some, with compressed rows wherever half of a weight or more is zero.

    Only convolutions without groups and linear layers have such a form; others stay as they are.
    """
    if type(layer) is nn.Sequential:
        return nn.Sequential(*map(compressed, layer))
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and _is_sparse(layer.weight):
        return SparseConv2d(layer)
    if isinstance(layer, nn.Linear) and _is_sparse(layer.weight):
        return SparseLinear(layer)
    return layer


class SparseLinear(nn.Module):
    """A linear layer of compressed rows: (N, in) -> (N, out)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", _rows(layer.weight))
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = (self.get_buffer("weight") @ x.t()).t()
        return out if self.bias is None else out + self.bias


class SparseConv2d(nn.Module):
    """A convolution of compressed rows (out, in * K * K) with patches: (N, in, H, W) -> (N, out, H', W')."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", _rows(layer.weight))
        self.bias = layer.bias
        self.kernel, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        vertical, horizontal = map(int, layer.padding)
        self.around = (horizontal, horizontal, vertical, vertical)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, self.around)
        sizes = zip(x.shape[2:], self.dilation, self.kernel, self.stride, strict=True)
        height, width = ((size - d * (k - 1) - 1) // s + 1 for size, d, k, s in sizes)
        plain = (self.kernel, self.stride) == ((1, 1), (1, 1))
        patches = x.flatten(2) if plain else F.unfold(x, self.kernel, self.dilation, stride=self.stride)
        columns = patches.permute(1, 0, 2).reshape(patches.shape[1], -1)  # (in * K * K, N * places)
        out = self.get_buffer("weight") @ columns
        out = out if self.bias is None else out + self.bias[:, None]
        return out.view(-1, len(x), height, width).transpose(0, 1)


def _is_sparse(weight: torch.Tensor) -> bool:
    return float((weight == 0).double().mean()) >= SPARSE


def _rows(weight: torch.Tensor) -> torch.Tensor:
    """A weight (out, in, ...) as compressed rows (out, in * ...)."""
    rows = weight.detach().contiguous().flatten(1)
    starts = (rows != 0).sum(1).cumsum(0)
    places = rows.nonzero()[:, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse rows are in beta state
        return torch.sparse_csr_tensor(
            F.pad(starts, (1, 0)).int(), places.int(), rows[rows != 0], rows.shape, check_invariants=True
        )
