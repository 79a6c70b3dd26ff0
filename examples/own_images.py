"""Design for a folder of your own images, one folder a class, and classify some of them.

python examples/own_images.py path/to/images --latency 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import netsmith

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", type=Path, help="a folder that holds one folder of images for each class")
parser.add_argument("--latency", type=float, default=2.0, help="most milliseconds of one image")
parser.add_argument("--device", default="onnxruntime:threads=1")
parser.add_argument("--out", type=Path, default=Path("runs/own-images"))
parser.add_argument("--quick", action="store_true", help="two epochs of each: to see it work, not to use it")
arguments = parser.parse_args()

design = netsmith.design(
    arguments.images,
    device=arguments.device,
    latency_ms=arguments.latency,
    budget="quick",
    out=arguments.out,
    skip_bad=True,
    baselines="none",
    **({"search_epochs": 2, "epochs": 2} if arguments.quick else {}),
)

print(f"test accuracy {design.accuracy:.4f}, {design.latency_ms:.4g} ms measured on {arguments.device}")
print("within the budget" if design.budget_met else f"over the budget: {design.result['reasons']}")
some = sorted(path for path in arguments.images.rglob("*") if path.is_file())[:3]
for prediction in design.predict(some):
    print(f"{prediction.image}: {prediction.label} ({prediction.probability:.2f})")
print("exported to", design.export(arguments.out / "exported.onnx"))
print("report:", design.folder / "report.html")
