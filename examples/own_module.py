"""Measure modules of your own on a device, in turn, beside the reference network that takes drift out.

python examples/own_module.py --device onnxruntime:threads=1
"""

from __future__ import annotations

import argparse

from torch import nn

from netsmith.devices.bench import Bench
from netsmith.devices.device import parse

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="onnxruntime:threads=1")
arguments = parser.parse_args()


def network(kernel: int) -> nn.Module:
    """Return a small network for (N, 3, 32, 32) whose convolutions have this kernel."""
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 32, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    ).eval()


shape = (3, 32, 32)
device = parse(arguments.device)
models = {f"kernel {kernel}": device.export(network(kernel), shape) for kernel in (3, 5, 7)}
bench = Bench(device)
latencies = bench.time_files(models, limit_s=10)
for name, latency in latencies.items():
    low, high = latency.interval_ms
    used = device.footprint(models[name])
    print(
        f"{name}: {latency.median_ms:.4g} ms ({low:.4g} to {high:.4g}), "
        f"{used.size_bytes} bytes, {used.peak_bytes} bytes of memory over idle"
    )
