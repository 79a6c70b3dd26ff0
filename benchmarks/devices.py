"""How well each runtime of this processor is predicted: by its own table, and by transfer from ten networks.

For each device: its table of the ``mbconv`` space, the correction fitted to networks, 30 archs held out of
both; then a model of it made of the first device's blocks and ten measured networks, checked on 16 others.
The repeat error is how far the medians of some networks move when they are measured once more. What was
finished is in the records file.

    python benchmarks/devices.py --json devices.json
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from random import Random

import torch
from harness import Figure, Record, Records, parser, publish
from torch import nn

from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.latency.cache import TableCache
from netsmith.latency.files import read_model, write_model
from netsmith.latency.fit import PREDICTORS
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import fit_model, profile
from netsmith.latency.transfer import transfer
from netsmith.nn.network import Network
from netsmith.pipeline.calibration import calibrated
from netsmith.spaces.chain import ChainSpace
from netsmith.spaces.mbconv import mbconv

DEVICES = (
    "onnxruntime", "onnxruntime:precision=int8", "openvino", "litert", "litert:precision=int8", "mnn",
    "executorch", "executorch:precision=int8", "ncnn",
)  # fmt: skip
SHAPE, CLASSES, FITTED, HELDOUT, REPEATED = (3, 32, 32), 10, 60, 30, 8
NETWORKS_S = 120.0


def profiled(space: ChainSpace, bench: Bench, path: Path, seed: int) -> Record:
    """The model by the device's own table, kept at ``path``: its error and seconds, and that of measuring."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model = profile(
            space, bench, store=TableCache(Path(folder)), fit_networks=FITTED, heldout_networks=HELDOUT,
            networks_s=NETWORKS_S, seed=seed,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    path.parent.mkdir(parents=True, exist_ok=True)
    write_model(path, model)
    heldout = model.heldout
    numbers = {"fit_networks": FITTED, "heldout_networks": HELDOUT}
    by = {p: fit_model(space, model.table, p, **numbers, seed=seed) for p in PREDICTORS}
    return {
        "error": heldout.error,
        "spearman": heldout.spearman,
        "within_two_sd": heldout.within_two_sd,
        **{f"error by {predictor}": found.heldout.error for predictor, found in by.items()},
        "spread": max(heldout.measured_ms) / min(heldout.measured_ms),
        "repeat": repeat_error(space, bench, seed),
        "seconds": seconds,
    }


def repeat_error(space: ChainSpace, bench: Bench, seed: int) -> float:
    """The mean change of the medians of some networks between two measurements of them."""
    rng = Random(seed)
    subjects = {}
    for number in range(REPEATED):
        plan = space.plan(space.sample(rng))
        torch.manual_seed(0)
        subjects[str(number)] = (nn.Sequential(Network(plan)).eval(), SHAPE, "float32")
    first, second = (bench.time(subjects, limit_s=20.0) for _ in range(2))
    return statistics.mean(abs(second[name].median_ms / first[name].median_ms - 1) for name in subjects)


def transferred(space: ChainSpace, bench: Bench, known: LatencyModel, seed: int) -> Record:
    """The model by another device's blocks and ten networks, its seconds, and how alike the devices rank."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = transfer(space, bench, known, store=TableCache(Path(folder)), seed=seed)
    heldout = found.model.heldout
    return {
        "error": heldout.error,
        "spearman": heldout.spearman,
        "agreement": found.agreement,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--devices", nargs="+", default=list(DEVICES))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/devices.json"))
    arguments.add_argument(
        "--work", type=Path, default=Path("runs/devices"), help="where the tables are kept"
    )
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    space, records, figures = mbconv(SHAPE, CLASSES), Records(options.records), []
    known: Path | None = None
    for name in options.devices:
        bench, warning = calibrated(parse(name))
        if warning:
            print(warning)
        path = options.work / f"{name.replace(':', '-')}.json"
        if not path.exists():  # the record without its table serves no transfer
            records.pieces.pop(f"{name}: profile", None)
        found = records.once(f"{name}: profile", lambda b=bench, p=path: profiled(space, b, p, options.seed))
        repeat, spread = 100 * found["repeat"], found["spread"]
        figures += [
            *(Figure(f"{name}: error by '{p}'", 100 * found[f"error by {p}"], "%") for p in PREDICTORS),
            Figure(f"{name}: within two of the predictor's sd", 100 * found["within_two_sd"], "%"),
            Figure(
                f"{name}: mean absolute error", 100 * found["error"], "%", f"<= {max(3.0, 1.2 * repeat):.3g}"
            ),
            Figure(f"{name}: rank correlation", found["spearman"], "", ">= 0.98" if spread > 1.15 else None),
            Figure(f"{name}: slowest held-out network over fastest", spread, "x"),
            Figure(f"{name}: change between two measurements", repeat, "%"),
            Figure(f"{name}: profiling", found["seconds"], "s", "<= 300"),
        ]
        if known is None:
            known = path
            continue
        moved = records.once(
            f"{name}: transfer", lambda b=bench, k=known: transferred(space, b, read_model(k), options.seed)
        )
        figures += [
            Figure(f"{name}: error by transfer of ten networks", 100 * moved["error"], "%", "<= 6"),
            Figure(f"{name}: its rank correlation", moved["spearman"]),
            Figure(f"{name}: rank correlation with the known device", moved["agreement"]),
            Figure(f"{name}: seconds of the transfer", moved["seconds"], "s"),
        ]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
