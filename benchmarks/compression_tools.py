"""Netsmith's compression beside the tools that people use: accuracy at equal measured latency, in one run.

Networks like VGG, ResNet and MobileNet are trained on part of Fashion-MNIST. `netsmith.prune` takes channels
out within a share of the network's measured latency. Torch-Pruning's global pruner by magnitude, and FastNAS
of NVIDIA's ModelOpt, take out as few as keep the same limit, as measured; all are trained on alike, and timed
in turn. Then the whole networks in 8 bits: Netsmith's files, those of NNCF, and those of ONNX Runtime's
quantiser as it comes, on ONNX Runtime and OpenVINO. Last `netsmith.prune` and `netsmith.quantize` one after
the other, the second of which leaves layers in float32 where int8 is no faster, beside the whole network in
float32. A tool that is not installed is named and left out; ModelOpt and NNCF are no part of
the project's environment (`pip install nncf==3.4.0 nvidia-modelopt==0.47.0 pulp torchprofile`).

    python benchmarks/compression_tools.py --data ../shared/data/fashion_mnist --json compression_tools.json
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from harness import Figure, Record, Records, data_parser, part_of, publish
from networks import NETWORKS
from torch import nn
from trained import Trained

import netsmith
from netsmith.devices.bench import Bench
from netsmith.devices.device import parse
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.finish import CALIBRATION_IMAGES, Finished, export_network
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Silent
from netsmith.pipeline.settings import Settings
from netsmith.pipeline.work import EVALUATION_BATCH, Work

DEVICE, INT8 = "onnxruntime:threads=1", "onnxruntime:threads=1,precision=int8"
OTHER = "openvino:threads=1"
SHARE, LESS = 0.6, 0.54  # of the latency of the whole network: the limits; the latter before quantising
MAX_DROP = 0.0025  # of validation accuracy, by quantising
SEARCHED_BATCHES = 16  # that FastNAS scores a network by
HALVINGS = 7
WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


def main() -> None:
    arguments = data_parser(__doc__ or "", "compression_tools")
    arguments.add_argument("--images", type=int, default=9000)
    arguments.add_argument("--epochs", type=int, default=8, help="of a base's training")
    arguments.add_argument("--tuning", type=int, default=3, help="epochs of training on")
    arguments.add_argument("--seeds", type=int, default=3)
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    for name in ("nncf", "modelopt"):
        if not find_spec(name):
            print(f"{name} is not installed: its rows are left out")
    data = part_of(options.data, options.images, options.work / f"part-{options.images}.npz")
    records = Records(options.records)
    found: dict[str, list[Record]] = {}
    for seed in range(options.seeds):
        for name in NETWORKS:
            run = partial(compared, name, data, options, seed)
            found.setdefault(name, []).append(records.once(f"{name}, seed {seed}", run))
    publish([figure for name, runs in found.items() for figure in figures_of(name, runs)], options.json)


def compared(name: str, data: Path, options: Any, seed: int) -> Record:
    """Return accuracy and latency of each tool's network and of each tool's file in 8 bits."""
    folder = options.work / f"{name}-{seed}"
    settings = Settings(data=str(data), device=DEVICE, budget="quick", epochs=options.tuning, seed=seed)
    with DesignFolder(folder, settings) as opened:
        work = Work(opened, settings.data, Silent())
        rivals = Rivals(work, name, options.epochs)
        ours = rivals.pruned_by_us(folder / "netsmith", SHARE)
        limit = SHARE * rivals.latency_ms
        networks = {"base": rivals.base, "netsmith": ours}
        networks["torch-pruning"] = rivals.tuned(
            "torch-pruning", fewest_out(rivals.by_torch_pruning, rivals, limit)
        )
        if find_spec("modelopt"):
            networks["modelopt"] = rivals.tuned("modelopt", fewest_out(rivals.by_modelopt, rivals, limit))
        files = {way: network.model for way, network in networks.items()}
        record: Record = {"limit_ms": limit, "pruned": rivals.measured(DEVICE, files)}
        files = {
            "float32": rivals.base.model,
            "netsmith": export_network(work, rivals.base.module, "base", parse(INT8)),
            "netsmith, pruned": rivals.pruned_and_quantized(folder / "both"),
            "onnxruntime": rivals.by_onnxruntime(),
            **({"nncf": rivals.by_nncf()} if find_spec("nncf") else {}),
        }
        record["int8"] = {device: rivals.measured(device, files) for device in (DEVICE, OTHER)}
    return record


class Rivals(Trained):
    """A trained network, and what each tool makes of it."""

    def __init__(self, work: Work, name: str, epochs: int) -> None:
        super().__init__(work, NETWORKS[name], epochs)
        self.latency_ms = work.once("whole", lambda: {"ms": self.timed(self.base.module)})["ms"]

    def pruned_by_us(self, out: Path, share: float) -> Finished:
        """Return what `netsmith.prune` makes of the base within a share of its latency."""
        splits, asked = self.work.splits, self.work.settings
        module, design = netsmith.prune(
            self.base.module,
            asked.data,
            device=DEVICE,
            latency_ms=f"{100 * share:g}%",
            mean=splits.mean,
            std=splits.std,
            strategy="amc",
            epochs=asked.epochs,
            budget="quick",
            baselines="none",
            seed=asked.seed,
            out=out,
        )
        return replace(self.base, name="netsmith", module=module, model=design.exported.read_bytes())

    def pruned_and_quantized(self, out: Path) -> bytes:
        """Return the file of the base with fewer channels, and with layers in int8 where that is faster."""
        splits, asked = self.work.splits, self.work.settings
        _, design = netsmith.quantize(
            self.pruned_by_us(out / "pruned", LESS).module,
            asked.data,
            device=INT8,
            max_drop=MAX_DROP,
            mean=splits.mean,
            std=splits.std,
            budget="quick",
            baselines="none",
            seed=asked.seed,
            out=out / "quantized",
        )
        return design.exported.read_bytes()

    def by_torch_pruning(self, share: float) -> nn.Module:
        """Return the base without so great a share of its channels, by Torch-Pruning's global pruner."""
        import torch_pruning as tp

        module = deepcopy(self.base.module)
        last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        example = torch.zeros(1, *self.work.splits.input_shape)
        pruner = tp.pruner.BasePruner(
            module,
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            global_pruning=True,
            pruning_ratio=share,
            max_pruning_ratio=0.9,
            ignored_layers=last,
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
            channel_groups={},
        )
        pruner.step()
        return module

    def by_modelopt(self, share: float) -> nn.Module:
        """Return FastNAS's best network with so great a share of the multiply-adds taken out."""
        import modelopt.torch.prune as mtp

        module = deepcopy(self.base.module).to(memory_format=torch.contiguous_format)
        ratios = {"channels_ratio": WIDTHS, "channel_divisor": 4}
        features = {"features_ratio": WIDTHS, "feature_divisor": 4}
        config = {"nn.Conv2d": {"*": ratios}, "nn.BatchNorm2d": {"*": features}}
        loader = self.work.loader(self.work.splits.train, EVALUATION_BATCH, salt=3)
        with (
            tempfile.TemporaryDirectory() as folder,
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            best, _ = mtp.prune(
                module,
                mode=[("fastnas", config)],
                constraints={"flops": f"{100 * (1 - share):.1f}%"},
                dummy_input=torch.zeros(1, *self.work.splits.input_shape),
                config={
                    "data_loader": Batches(loader),
                    "score_func": self.score,
                    "checkpoint": f"{folder}/search",
                    "verbose": False,
                },
            )
        found: nn.Module = best
        return found

    def score(self, module: nn.Module) -> float:
        """Return the validation accuracy, 0..1, by some images."""
        from netsmith.train import evaluate

        return evaluate(module, self.work.scoring).accuracy

    def by_onnxruntime(self) -> bytes:
        """Return the base in 8 bits by ONNX Runtime's quantiser as it comes."""
        from onnxruntime.quantization import CalibrationDataReader, quantize_static

        class Images(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, images: Iterator[dict[str, Any]]) -> None:
                self.images = images

            def get_next(self) -> dict[str, Any] | None:
                return next(self.images, None)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_static(onnx.load_from_string(self.base.model), str(path), Images(self.calibration()))
            return path.read_bytes()

    def by_nncf(self) -> bytes:
        """Return the base in 8 bits by NNCF."""
        import nncf

        items = list(self.calibration())
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            made = nncf.quantize(
                onnx.load_from_string(self.base.model), nncf.Dataset(items), subset_size=len(items)
            )
        return bytes(made.SerializeToString())

    def calibration(self) -> Iterator[dict[str, Any]]:
        """Yield images of the training part, one a time, by the name of the file's input."""
        name = onnx.load_from_string(self.base.model).graph.input[0].name
        images = self.work.splits.train.fetch(torch.arange(CALIBRATION_IMAGES)).numpy()
        yield from ({name: image} for image in np.split(images, len(images)))

    def measured(self, device: str, files: dict[str, bytes]) -> Record:
        """Return test accuracy and latency of files, timed in turn."""
        bench = self.work.bench if device == DEVICE else Bench(parse(device))
        times = bench.time_files(files, limit_s=60.0)
        test = self.work.splits.test
        return {
            way: {
                "accuracy": test_exported(bench.device, model, test).accuracy,
                "latency_ms": times[way].median_ms,
                "bytes": len(model),
            }
            for way, model in files.items()
        }


class Batches:
    """Some batches of a loader, as often as asked for."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return SEARCHED_BATCHES

    def __iter__(self) -> Iterator[Any]:
        for _, batch in zip(range(SEARCHED_BATCHES), self.loader.epoch(0), strict=False):
            yield batch


def fewest_out(make: Callable[[float], nn.Module], rivals: Rivals, limit: float) -> nn.Module:
    """Return the network with the least share taken out that keeps the limit as measured, by halving."""
    low, high = 0.0, 0.9
    best = None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        module = make(middle)
        if rivals.timed(module) <= limit:
            best, high = module, middle
        else:
            low = middle
    assert best is not None, "not even with nine tenths taken out is the limit kept"
    return best


def figures_of(name: str, runs: list[Record]) -> Iterator[Figure]:
    for way in runs[0]["pruned"]:
        accuracy = statistics.mean(run["pruned"][way]["accuracy"] for run in runs)
        yield Figure(f"{name}, {way}: test accuracy", 100 * accuracy, "%")
        latency = statistics.mean(run["pruned"][way]["latency_ms"] for run in runs)
        yield Figure(f"{name}, {way}: latency", latency, "ms")
    for way in runs[0]["pruned"]:
        if way not in ("base", "netsmith"):
            gains = [100 * (r["pruned"]["netsmith"]["accuracy"] - r["pruned"][way]["accuracy"]) for r in runs]
            yield Figure(
                f"{name}: netsmith over {way} at the limit", statistics.mean(gains), "points", ">= 0"
            )
    for device in runs[0]["int8"]:
        where = f"{name}, {device.partition(':')[0]}"
        for way in runs[0]["int8"][device]:
            each = [_each(device, way, run) for run in runs]
            accuracy = statistics.mean(found["accuracy"] for found in each)
            yield Figure(f"{where}, {way}: test accuracy", 100 * accuracy, "%")
            latency = statistics.mean(found["latency_ms"] for found in each)
            yield Figure(f"{where}, {way}: latency", latency, "ms")
    pairs = [(_each(DEVICE, "float32", run), _each(DEVICE, "netsmith, pruned", run)) for run in runs]
    times = statistics.mean(whole["latency_ms"] / ours["latency_ms"] for whole, ours in pairs)
    lost = statistics.mean(100 * (whole["accuracy"] - ours["accuracy"]) for whole, ours in pairs)
    bar = name == "MobileNet"
    yield Figure(f"{name}: int8 and pruned, times as fast as float32", times, bar=">= 1.8" if bar else None)
    yield Figure(f"{name}: int8 and pruned, accuracy lost", lost, "points", "<= 0.5" if bar else None)


def _each(device: str, way: str, run: Record) -> Record:
    found: Record = run["int8"][device][way]
    return found


if __name__ == "__main__":
    main()
