"""Whether a latency of today is one of an hour later, while another process loads one core.

Networks of growing weights are measured, as ``netsmith measure`` does, on the machine as it is; an hour later
the same files are measured again while another process keeps one core busy. What was measured first is in
the records file: run the command again when it says so.

    python benchmarks/hour_apart.py --json hour_apart.json
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from harness import Figure, Record, Records, parser, publish

from netsmith.devices.device import parse
from netsmith.nn.network import Network
from netsmith.pipeline.timing import time_on
from netsmith.spaces.mobilenetv2 import mobilenetv2

SHAPE, CLASSES, WIDTHS = (1, 28, 28), 10, (0.1, 0.35, 0.5, 1.0)


def written(folder: Path, width: float, device: str) -> Path:
    """An exported MobileNetV2, the same bytes at every call."""
    exported_by = parse(device)
    path = folder / f"mobilenetv2-{width:g}{exported_by.suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        network = Network(mobilenetv2(SHAPE, CLASSES, width)).eval()
        path.write_bytes(exported_by.export(network, SHAPE))
    return path


def measured(files: dict[str, Path], device: str) -> Record:
    found: Record = {"when": time.time()}
    for name, path in files.items():
        (timed,) = time_on(path, [device])
        found[name] = timed.latency.median_ms
        found[f"{name}, size"] = path.stat().st_size
        found[f"{name}, disturbed"] = timed.latency.disturbed
    return found


def _spin() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Keep one core busy, from a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        time.sleep(2)
        yield
    finally:
        process.kill()
        process.join()


def loaded(files: dict[str, Path], device: str) -> Record:
    with one_core_busy():
        return measured(files, device)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--device", default="onnxruntime:threads=1")
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/hour_apart.json"))
    arguments.add_argument("--work", type=Path, default=Path("runs/hour_apart"))
    arguments.add_argument("--wait", type=float, default=3600.0, help="seconds between the two")
    options = arguments.parse_args()
    records = Records(options.records)
    files = {f"MobileNetV2 x{w:g}": written(options.work, w, options.device) for w in WIDTHS}
    first = records.once("first", lambda: measured(files, options.device))
    left = first["when"] + options.wait - time.time()
    if left > 0 and "second" not in records.pieces:
        print(f"measured once; run this again in {left / 60:.0f} minutes or later")
        return
    second = records.once("second", lambda: loaded(files, options.device))
    figures = [Figure("hours between", (second["when"] - first["when"]) / 3600, "h")]
    for name in files:
        change = abs(second[name] / first[name] - 1)
        figures += [
            Figure(f"{name}: file", first[f"{name}, size"] / 1e6, "MB"),
            Figure(f"{name}: first", first[name], "ms"),
            Figure(f"{name}: with one core busy", second[name], "ms"),
            Figure(f"{name}: difference", 100 * change, "%", "<= 5"),
        ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
