"""Design for a PyTorch dataset of your own, and use the trained module in PyTorch.

The dataset here draws squares and circles; any with a length whose items are (image, label) will do.

python examples/own_dataset.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.utils.data import Dataset

import netsmith

SIZE = 16


class Shapes(Dataset[tuple[torch.Tensor, int]]):
    """Grey images (1, 16, 16) of a square, label 0, or a circle, label 1, somewhere in noise."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the image as floats from 0 to 1, and its label; the same at every call."""
        generator = torch.Generator().manual_seed(index)
        row, column = torch.randint(5, SIZE - 5, (2,), generator=generator)
        rows, columns = torch.arange(SIZE)[:, None] - row, torch.arange(SIZE)[None] - column
        label = index % 2
        inside = rows**2 + columns**2 <= 16 if label else (rows.abs() <= 3) & (columns.abs() <= 3)
        image = 0.3 * torch.rand(1, SIZE, SIZE, generator=generator) + 0.6 * inside
        return image, label


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--count", type=int, default=2000, help="how many images to draw")
parser.add_argument("--device", default="onnxruntime:threads=1")
parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
parser.add_argument("--quick", action="store_true", help="two epochs of each: to see it work, not to use it")
arguments = parser.parse_args()

design = netsmith.design(
    Shapes(arguments.count),
    device=arguments.device,
    latency_ms=0.2,
    budget="quick",
    out=arguments.out,
    baselines="none",
    **({"search_epochs": 2, "epochs": 2} if arguments.quick else {}),
)
print(f"test accuracy {design.accuracy:.4f}, {design.latency_ms:.4g} ms measured")

image, label = Shapes(1)[0]
pixels = (255 * image).round().to(torch.uint8)[None]  # the module takes pixels 0..255, (N, C, H, W)
with torch.no_grad():
    print("label", label, "logits", design.module(pixels)[0].tolist())
for item in design.front:
    print(f"{item['latency_ms']:.4g} ms, validation accuracy {item['validation_accuracy']:.4f}")
