"""The files of one network in which some layers are int8 and others float32, and what is measured of them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from netsmith.compress.accelerators import ConvShape
from netsmith.compress.fake_quant import layer_shapes
from netsmith.compress.floating import Layers, Outcome, choose_floating, fastest_floating
from netsmith.compress.haq import search_floating
from netsmith.pipeline.base import Base, layers_with_weights
from netsmith.pipeline.finish import Finished, counts_of, export_network
from netsmith.pipeline.networks import run_over
from netsmith.pipeline.work import SCORING_IMAGES, Work
from netsmith.spaces.mixed import MixedSpace
from netsmith.trial import Trial

# Files that are measured beside those of one float32 layer.
MOST = {"quick": 12, "standard": 40, "thorough": 120}
LIMITED = ("latency_ms", "size_bytes", "peak_bytes")
MAX_DROP = 0.01  # of validation accuracy, 0..1, that a file may lose where there is no other limit


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
            search_floating(self.shapes(), noted, self.limits, episodes=most, seed=asked.seed)
        else:
            search = (
                choose_floating(layers, noted, self.limits, most=most)
                if self.limits
                else fastest_floating(layers, noted, self.accurate, most=most)
            )
            for _ in search:
                pass  # what it measures is noted
        return list(steps.items())

    def shapes(self) -> dict[str, ConvShape]:
        """Return the shapes of the layers, in the order in which an image comes to them."""
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
            model=self.file(floating, name),
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

    def file(self, floating: Layers, name: str) -> bytes:
        """Return the file in which these layers are float32."""
        return export_network(self.work, self.base.module, name, floating=floating)

    def _figures(self, floating: Layers) -> dict[str, float]:
        work = self.work
        model = self.file(floating, "design")
        loss, accuracy = self.judged(model)
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

    def judged(self, model: bytes) -> tuple[float, float]:
        """Return the mean cross-entropy and the accuracy, 0..1, of a file on validation images."""
        images = self.work.splits.validation
        some = images.subset(torch.arange(min(len(images), SCORING_IMAGES)))
        batches = list(run_over(self.work.bench.device, model, some))
        labels = torch.cat([batch for batch, _ in batches])
        logits = torch.from_numpy(np.concatenate([batch for _, batch in batches])).double()
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())
