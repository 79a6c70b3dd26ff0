"""The across-stack sweep of a network: what it loses and what that gains, at every layer of the stack.

After Turner et al. 2018, "Characterising Across-Stack Optimisations for Deep Convolutional Neural Networks":
compression, precision, runtime and threads are gone through together, because what a network saves on paper
is not what it saves where it runs. Each network is made and trained once, all for as many epochs; each file
is written and tested once; each point, a file with so many threads, is measured. What is found is known by
what it is of, so that a sweep that was killed, or is asked for more, does only what is missing.
"""

from __future__ import annotations

import copy
import gzip
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from netsmith.compress.allocation import knapsack
from netsmith.compress.weights import share_of_zeros
from netsmith.devices.bench import Bench
from netsmith.devices.device import Device, Precision, parse
from netsmith.errors import (
    BudgetError,
    CompressionError,
    DeviceError,
    ExportError,
    FolderError,
    MissingExtraError,
    SpaceError,
)
from netsmith.nn.runtime import keep_memory
from netsmith.pipeline.base import Base, base_of
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.compression.compressed import compression
from netsmith.pipeline.compression.pruning import Pruning
from netsmith.pipeline.finish import counts_of, export_network, train_network, training_recipe
from netsmith.pipeline.folder import DesignFolder
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.progress import Progress, Silent
from netsmith.pipeline.sweeping.grid import File, Grid, Variant
from netsmith.pipeline.sweeping.swept import answer
from netsmith.pipeline.timing import time_in_turn
from netsmith.pipeline.values import device_text
from netsmith.pipeline.work import Work
from netsmith.plan import Plan
from netsmith.report import write_sweep

# At most so many seconds are spent on timing a file with so many threads.
POINT_LIMIT_S = 6.0
# What a runtime may refuse, and a point then says.
REFUSED = (DeviceError, ExportError, MissingExtraError)
# Why there may be no such network.
IMPOSSIBLE = (CompressionError, BudgetError, SpaceError)


def run_sweep(
    folder: Path, grid: Grid, out: Path, *, epochs: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Sweep the finished design in ``folder`` over ``grid`` in the folder ``out``, and return what came out.

    Every network is trained for ``epochs``, those of the design where not given, by the design's recipe on
    its images. The same call goes on with what is in ``out``, and so does one of another grid. Raises
    :class:`netsmith.errors.NetsmithError` where something must be mended, such as a runtime that is unknown
    or not installed; a combination that a runtime cannot do is a point with a reason.
    """
    keep_memory()
    asked = {} if epochs is None else {"epochs": epochs}
    settings = compression(folder, asked, also=("budget", "threads", "epochs"))
    for runtime in grid.runtimes:
        parse(runtime)
    with DesignFolder(out, settings) as opened:
        sweep = Sweep(Work(opened, settings.data, progress or Silent()), grid)
        found = sweep.run()
        opened.write_json("sweep.json", found)
        write_sweep(out / "report.html", found)
    return found


class Sweep:
    """A sweep at work in an open folder: networks, then files, then what each point takes."""

    def __init__(self, work: Work, grid: Grid) -> None:
        self.work, self.grid = work, grid
        self.devices: dict[str, Device] = {}

    def run(self) -> dict[str, Any]:
        """Do what is missing and return everything, as it stands in ``sweep.json``."""
        work = self.work
        work.read_images()
        work.set_threads(self.base.plan or self.base.module)
        (work.folder.path / "networks").mkdir(exist_ok=True)
        for variant in self.grid.variants:
            self._write_files(variant)
        work.progress.stage("Measuring memory")
        pairs = list(product(self._kept_files(), self.grid.threads))
        for count, (file, threads) in enumerate(pairs, 1):
            self._memory(file, threads)
            work.progress.update(count, len(pairs), file.name)
        timed = {
            (runtime, threads): self._latencies(runtime, threads)
            for runtime, threads in product(self.grid.runtimes, self.grid.threads)
        }
        return answer(work, self.grid, self.base, timed)

    @cached_property
    def base(self) -> Base:
        """What is swept; its images are read before."""
        return base_of(self.work)

    def _write_files(self, variant: Variant) -> None:
        """Train a variant and write all files of it, where that is not done."""
        journal = self.work.journal
        files = [file for file in self.grid.files if file.variant == variant]
        known = journal.last("network", network=variant.name)
        if known is not None and (known["reason"] or all(self._known(file) for file in files)):
            return
        self.work.progress.stage(f"Training {variant.name}")
        try:
            network, figures = self._trained(variant)
        except IMPOSSIBLE as error:
            journal.write("network", network=variant.name, reason=str(error))
            return
        self.work.once("network", lambda: figures, network=variant.name)
        for file in files:
            self.work.once("file", partial(self._written, file, network), file=file.name)

    def _known(self, file: File) -> dict[str, Any] | None:
        return self.work.journal.last("file", file=file.name)

    def _trained(self, variant: Variant) -> tuple[nn.Module, dict[str, Any]]:
        """Return a variant after its training, and its figures that no runtime has a part in."""
        sparsity = variant.sparsity
        plan, start = self._begun(variant)
        # The recipe of the whole network, for all: a smaller one might train longer, and gain by that alone.
        recipe = training_recipe(self.work, self.base.plan or self.base.module)
        network, outcome = train_network(
            self.work, variant.name, plan, recipe, start=start, sparsity=sparsity
        )
        counts = counts_of(self.work, plan or network)
        return network, {
            "reason": "",
            "macs": counts.macs,
            "params": counts.params,
            "zeros": share_of_zeros(network),
            "pattern": "" if sparsity is None else sparsity.name,
            "validation_accuracy": outcome.last.accuracy,
            "epochs": recipe.epochs,
            "train_seconds": outcome.seconds,
        }

    def _begun(self, variant: Variant) -> tuple[Plan | None, nn.Module]:
        """What a variant is trained from: the design's network, or what is left of its channels."""
        if not variant.narrower:
            return self.base.plan, copy.deepcopy(self.base.module)
        pruning = self._pruning
        arch = pruning.space.nearest(
            knapsack(pruning.choices, pruning.taylor, pruning.cost, 1 - variant.strength)
        )
        return pruning.plan(arch), pruning.start(arch)

    @cached_property
    def _pruning(self) -> Pruning:
        """The network by its channels; its cost is the share of the multiply-adds that are left."""
        whole = counts_of(self.work, self.base.plan or self.base.module)
        return Pruning(self.work, self.base, {"macs": float(whole.macs)})

    def _written(self, file: File, network: nn.Module) -> dict[str, Any]:
        """Write a file and test it by its runtime: what is claimed is true of the file itself."""
        try:
            device = parse(device_text(file.runtime, 1, file.precision))  # no file knows its threads
            model = export_network(self.work, network, file.variant.name, device)
            accuracy = test_exported(device, model, self.work.splits.test).accuracy
        except REFUSED as error:
            return {"reason": str(error)}
        name = f"networks/{file.name}{device.suffix}"
        self.work.folder.write_bytes(name, model)
        return {
            "reason": "",
            "path": name,
            "accuracy": accuracy,
            "size_bytes": len(model),
            "stored_bytes": len(gzip.compress(model, 9, mtime=0)),
        }

    def _kept_files(self) -> Iterator[File]:
        """The files that there are."""
        for file in self.grid.files:
            known = self._known(file)
            if known is not None and not known["reason"]:
                yield file

    def _bytes(self, file: File) -> bytes:
        known = self._known(file)
        assert known is not None
        path = self.work.folder.path / known["path"]
        try:
            content: bytes = path.read_bytes()
        except OSError as error:
            raise FolderError(
                f"cannot read {path}, a file of this sweep: {error.strerror or error}"
            ) from None
        if len(content) != known["size_bytes"]:
            raise FolderError(f"{path} is not the file that this sweep wrote; choose another --out")
        return content

    def _device(self, runtime: str, threads: int, precision: Precision) -> Device:
        """Return a device, the same at every start. Raises what is in ``REFUSED``."""
        text = device_text(runtime, threads, precision)
        if text not in self.devices:
            device = parse(text)
            found = device.fingerprint()
            known = self.work.once("device", lambda: {"fingerprint": found}, device=text)["fingerprint"]
            if known != found:
                raise FolderError(
                    f"{self.work.folder.path} was measured on {known}, which is not the device at hand, "
                    f"{found}. Go on there, or choose another --out"
                )
            self.devices[text] = device
        return self.devices[text]

    def _memory(self, file: File, threads: int) -> dict[str, Any]:
        """What a file takes in a process of its own; also the proof that the device runs it."""

        def make() -> Mapping[str, Any]:
            try:
                used = self._device(file.runtime, threads, file.precision).footprint(self._bytes(file))
            except REFUSED as error:
                return {"reason": str(error)}
            return {"reason": "", "peak_bytes": used.peak_bytes, "load_ms": used.load_ms}

        return self.work.once("memory", make, file=file.name, threads=threads)

    def _latencies(self, runtime: str, threads: int) -> dict[str, Any]:
        """Time all files of a runtime with so many threads in turn; return latencies by the files' names."""
        files = [
            file
            for file in self._kept_files()
            if file.runtime == runtime and not self._memory(file, threads)["reason"]
        ]

        def make() -> Mapping[str, Any]:
            self.work.progress.stage(f"Timing {device_text(runtime, threads, 'float32')}")
            given = {f.name: (self._device(runtime, threads, f.precision), self._bytes(f)) for f in files}
            latencies = time_in_turn(given, self._bench, limit_s=POINT_LIMIT_S) if given else {}
            return {"latencies": {name: latency.to_dict() for name, latency in latencies.items()}}

        # They compare with those of the same moments, so that with one more all are timed again.
        names = [file.name for file in files]
        timed = self.work.once("timed", make, runtime=runtime, threads=threads, files=names)
        latencies: dict[str, Any] = timed["latencies"]
        return latencies

    def _bench(self, device: Device) -> Bench:
        bench, warning = calibrated(device)
        if warning:
            self.work.warn(warning)
        return bench
