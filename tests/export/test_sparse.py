"""Compressed rows compute what the layers do that they are made of, and only where enough is zero."""

from __future__ import annotations

import torch
from torch import nn

from netsmith.export.module import OnnxModule
from netsmith.export.onnx import write_onnx


class Pruned(nn.Module):
    """Convolutions of every shape and a linear layer, most of whose weights are zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(4, 12, 1), nn.Conv2d(12, 8, 3, 2, 1, bias=False), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(8, 10, (3, 5), padding=(1, 0), dilation=(1, 2)),
        )  # fmt: skip
        self.tail = nn.Sequential(nn.Flatten(), nn.Linear(10 * 10 * 2, 5))
        with torch.no_grad():
            for weight in (p for p in self.parameters() if p.ndim > 1):
                weight.mul_(torch.rand_like(weight) < 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.tail(self.body(x))
        return out


def sparse_layers(module: nn.Module) -> int:
    return sum(b.layout is torch.sparse_csr for b in module.buffers())


def test_sparse_weights_compute_the_same_and_dense_ones_stay_as_they_are() -> None:
    module = Pruned().eval()
    x = torch.randn(3, 4, 13, 17)
    file = write_onnx(module, (4, 13, 17))
    read = OnnxModule(file, sparse=True)
    with torch.no_grad():
        torch.testing.assert_close(read(x), module(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(read(x[:1]), module(x[:1]), rtol=1e-4, atol=1e-5)
    assert sparse_layers(read) == 4, "all but the depthwise one"
    assert sparse_layers(OnnxModule(file)) == 0
    with torch.no_grad():
        module.body[0].weight.fill_(1.0)
    assert sparse_layers(OnnxModule(write_onnx(module, (4, 13, 17)), sparse=True)) == 3
