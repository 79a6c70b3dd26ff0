"""How well the latency of networks is predicted on this processor, and how long the table takes.

Every space is profiled from nothing, and the model is checked on 30 archs drawn uniformly, none of which
it was built from.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness import Figure, parser, publish

from netsmith.devices import parse
from netsmith.latency.cache import TableCache
from netsmith.latency.fit import PREDICTORS
from netsmith.latency.profile import fit_model, profile
from netsmith.pipeline.calibration import calibrated
from netsmith.spaces.mbconv import mbconv

INPUTS = ((1, 28, 28), (3, 32, 32))
CLASSES, HELDOUT = 10, 30


def figures(device: str, input_shape: tuple[int, int, int], seed: int) -> list[Figure]:
    (bench, _), space = calibrated(parse(device)), mbconv(input_shape, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        model = profile(space, bench, store=TableCache(Path(folder)), heldout_networks=HELDOUT, seed=seed)
        seconds = time.perf_counter() - started
    heldout, name = model.heldout, "x".join(map(str, input_shape))
    others = [predictor for predictor in PREDICTORS if predictor != "learned"]
    by = {p: fit_model(space, model.table, p, heldout_networks=HELDOUT, seed=seed).heldout for p in others}
    return [
        Figure(f"{name}: mean absolute error", 100 * heldout.error, "%", "<= 5"),
        Figure(f"{name}: rank correlation (Spearman)", heldout.spearman, "", ">= 0.97"),
        Figure(f"{name}: RMSE", heldout.rmse_ms, "ms"),
        Figure(f"{name}: within two of its sd", 100 * heldout.within_two_sd, "%"),
        *(Figure(f"{name}: error by '{p}'", 100 * found.error, "%") for p, found in by.items()),
        *(Figure(f"{name}: rank correlation by '{p}'", found.spearman) for p, found in by.items()),
        Figure(f"{name}: fastest held-out network", min(heldout.measured_ms), "ms"),
        Figure(f"{name}: slowest held-out network", max(heldout.measured_ms), "ms"),
        Figure(f"{name}: blocks measured", len(model.table.rows)),
        Figure(f"{name}: profiling", seconds, "s", "<= 180"),
    ]


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--device", default="onnxruntime:threads=1")
    made.add_argument("--seed", type=int, default=0)
    asked = made.parse_args()
    found = [figure for shape in INPUTS for figure in figures(asked.device, shape, asked.seed)]
    publish(found, asked.json)


if __name__ == "__main__":
    main()
