"""Designs that keep a trained network as it is, and choose which layers of its int8 file stay float32.

Every choice is a file that is written, run over validation images and timed on the device: what a layer gains
and costs there is not guessed. The network is not trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.fake_quant import layer_shapes
from netsmith.compress.floating import Layers, Outcome, choose_floating, fastest_floating, within
from netsmith.compress.haq import search_floating
from netsmith.devices.device import parse
from netsmith.errors import SettingsError
from netsmith.pipeline.answer import QUANTIZED
from netsmith.pipeline.compression.base import Base, base_of, layers_with_weights
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import first_within
from netsmith.pipeline.finish import Finished, counts_of, export_network
from netsmith.pipeline.networks import run_over
from netsmith.pipeline.values import device_text
from netsmith.pipeline.work import SCORING_IMAGES, Work
from netsmith.spaces.mixed import MixedSpace
from netsmith.trial import Trial

# Files that are measured beside those of one float32 layer.
MOST = {"quick": 12, "standard": 40, "thorough": 120}
LIMITED = ("latency_ms", "size_bytes", "peak_bytes")
# What is aimed at of a latency: measured again, for longer, it should keep the limit too.
_MARGIN = 0.99
MAX_DROP = 0.01  # of validation accuracy, 0..1, that a file may lose where there is no other limit


def int8(device: str) -> str:
    """Return the text of the device at whose int8 files the precisions are chosen."""
    return device if "precision=" in device else device_text(device, 1, "int8")


def mixed_design(work: Work) -> None:
    """Everything from the network to the result."""
    _check_device(work)
    work.read_images()
    work.progress.stage("Reading the network")
    base = base_of(work)
    precisions = Precisions(work, base, _limits(work))
    space = precisions.space
    work.once("space", lambda: {"id": space.id, "width": 1.0, "count": str(space.count())})
    work.progress.stage("Measuring precisions")
    best, reasons = _best(precisions)
    _keep_graph(precisions, best)
    work.progress.stage("Measuring everything")
    conclude(work, space, 1.0, None, [best, *_beside(precisions)], reasons)


class Precisions:
    """A trained network by its layers with weights, and what was measured of its files."""

    def __init__(self, work: Work, base: Base, limits: dict[str, float]) -> None:
        self.work, self.base, self.limits = work, base, limits
        self.space = MixedSpace(base.digest, layers_with_weights(base.module))

    def measured(self) -> list[tuple[Layers, Outcome]]:
        """Return what is measured on the way to the best file, in turn, by the strategy asked for."""
        asked, layers = self.work.settings, self.space.layers
        most, steps = MOST[asked.budget], dict[Layers, Outcome]()
        whole = 1 + len(layers) + most

        def noted(floating: Layers) -> Outcome:
            if floating not in steps:
                steps[floating] = self.outcome(floating)
                latency = steps[floating].figures["latency_ms"]
                note = f"{len(floating)} layers float32: {latency:.3g} ms"
                self.work.progress.update(len(steps), whole, note)
            return steps[floating]

        if asked.way.strategy == "haq":
            search_floating(self._shapes(), noted, self.limits, episodes=most, seed=asked.seed)
        else:
            search = (
                choose_floating(layers, noted, self.limits, most=most)
                if self.limits
                else fastest_floating(layers, noted, self.accurate, most=most)
            )
            for _ in search:
                pass  # what it measures is noted
        return list(steps.items())

    def _shapes(self) -> dict[str, ConvShape]:
        """The shapes of the layers, in the order in which an image comes to them."""
        found = layer_shapes(self.base.module, torch.zeros(1, *self.work.splits.input_shape))
        return {name: shape for name, shape in found.items() if name in self.space.layers}

    def outcome(self, floating: Layers) -> Outcome:
        """Return the outcome of the file in which these layers are float32; found once."""
        found = self._trial(floating).figures
        return Outcome(found["loss"], {name: found[name] for name in LIMITED if name in found})

    def accurate(self, floating: Layers) -> bool:
        """Whether the file's validation accuracy is no more below that of float32 than it may be."""
        asked = self.work.settings.max_drop
        most = MAX_DROP if asked is None else asked
        drop = self._error(floating) - self._error(frozenset(self.space.layers))
        return drop <= most + 1e-9  # shares of images are not exact

    def compare_speed(self, chosen: Outcome) -> None:
        """Tell the user where int8 gains no time, which of a small network it may not."""
        floating = self.outcome(frozenset(self.space.layers)).figures["latency_ms"]
        if floating < chosen.figures["latency_ms"]:
            self.work.warn(
                f"float32 throughout is faster here, {floating:.3g} ms against "
                f"{chosen.figures['latency_ms']:.3g} ms: int8 only makes this file smaller. Within a limit "
                "of latency layers stay float32 for their speed too"
            )

    def finished(self, floating: Layers, name: str, *, kind: str) -> Finished:
        """Return the network with the file in which these layers are float32."""
        return Finished(
            name=name,
            kind=kind,
            plan=self.base.plan,
            arch=self.space.of(floating),
            module=self.base.module,
            counts=counts_of(self.work, self.base.plan or self.base.module),
            model=self._file(floating, name),
            validation_accuracy=1 - self._error(floating),
            train_seconds=0.0,
            described={"precisions": {x: "float32" if x in floating else "int8" for x in self.space.layers}},
        )

    def _error(self, floating: Layers) -> float:
        return self._trial(floating).figures["error"]

    def _trial(self, floating: Layers) -> Trial:
        arch = self.space.of(floating)
        known = self.work.journal.last("trial", stage="measure", digest=arch.digest)
        if known is None:
            figures = self._figures(floating)
            trial = Trial(arch, figures, self.work.budget.broken(figures))
            known = self.work.journal.write(
                "trial", stage="measure", digest=arch.digest, trial=trial.to_dict()
            )
        return Trial.from_dict(known["trial"])

    def _file(self, floating: Layers, name: str) -> bytes:
        return export_network(self.work, self.base.module, name, floating=floating)

    def _figures(self, floating: Layers) -> dict[str, float]:
        work = self.work
        model = self._file(floating, "design")
        loss, accuracy = self._judged(model)
        latency = work.bench.time_files({"design": model}, width=0.02, limit_s=3.0)["design"]
        found = {
            "error": 1 - accuracy,
            "loss": loss,
            "latency_ms": latency.median_ms,
            "size_bytes": float(len(model)),
        }
        if "peak_bytes" in self.limits:
            found["peak_bytes"] = float(work.bench.device.footprint(model).peak_bytes)
        return found

    def _judged(self, model: bytes) -> tuple[float, float]:
        """Return the mean cross-entropy and the accuracy, 0..1, of a file on validation images."""
        images = self.work.splits.validation
        some = images.subset(torch.arange(min(len(images), SCORING_IMAGES)))
        batches = list(run_over(self.work.bench.device, model, some))
        labels = torch.cat([batch for batch, _ in batches])
        logits = torch.from_numpy(np.concatenate([batch for _, batch in batches])).double()
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())


def _check_device(work: Work) -> None:
    device = work.bench.device
    if device.precision != "int8":
        raise SettingsError(
            f"precisions are chosen of an int8 file's layers, which '{device.name}' does not take; name the "
            f"device as {int8(device.name)}, if its runtime has int8"
        )


def _limits(work: Work) -> dict[str, float]:
    """The limits that precisions are chosen by. Raises :class:`SettingsError` on others."""
    asked = work.budget.limits()
    others = sorted(set(asked) - set(LIMITED))
    if others:
        raise SettingsError(
            "precisions are chosen by limits of latency, size or memory, and change nothing else; got "
            f"{', '.join(others)}"
        )
    return {name: limit * (_MARGIN if name == "latency_ms" else 1) for name, limit in asked.items()}


def _best(precisions: Precisions) -> tuple[Finished, list[str]]:
    """Return the file of the least validation loss that keeps the budget when it is measured again.

    Where none keeps it, the one that is over it by the least, and why. Without limits it is the fastest that
    is accurate enough, int8 throughout before all others.
    """
    work, limits = precisions.work, precisions.limits
    steps = precisions.measured()
    kept = sorted((s for s in steps if within(s[1], limits)), key=lambda step: step[1].loss)
    if not limits:
        kept = sorted(
            (s for s in steps if precisions.accurate(s[0])), key=lambda s: s[1].figures["latency_ms"]
        )
        precisions.compare_speed(kept[0][1])
    reasons: list[str] = []
    if not kept:
        reasons = ["no choice of float32 layers that was measured keeps the budget; this is the closest"]
        kept = [min(steps, key=lambda step: work.budget.used(step[1].figures))]
    best, broken = first_within(
        work, [partial(precisions.finished, floating, kind="design") for floating, _ in kept]
    )
    return best, [*reasons, *broken]


def _keep_graph(precisions: Precisions, best: Finished) -> None:
    """Write the quantised graph as an ONNX file where the answer's is of another format.

    It is what that one was translated from, and what :attr:`Design.quantized` reads.
    """
    work = precisions.work
    if work.bench.device.suffix != ".onnx" and best.arch is not None:
        floating = precisions.space.floating(best.arch)
        graph = export_network(work, best.module, "design", parse(int8("onnxruntime")), floating)
        work.folder.write_bytes(QUANTIZED, graph)


def _beside(precisions: Precisions) -> Sequence[Finished]:
    """The files of int8 and of float32 alone, if they are asked for."""
    if precisions.work.settings.baselines == "none":
        return []
    both = {"int8": frozenset[str](), "float32": frozenset(precisions.space.layers)}
    return [precisions.finished(floating, name, kind=name) for name, floating in both.items()]
