"""Joint design: architecture, channels and precisions chosen together under one budget, as APQ does.

Wang et al. 2020: a supernet that was trained alone judges many archs at full precision; few are written with
some parts in int8 and some in float32, run over validation images and timed on the device. What an error
should be is learned from the many and carried over to the few (:mod:`netsmith.search.joint`). The best by
measurement is trained as every design is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from netsmith.arch import Arch
from netsmith.devices.device import parse
from netsmith.errors import SettingsError
from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.nn.network import Network
from netsmith.pipeline.base import layers_with_weights
from netsmith.pipeline.baselines import mobilenets
from netsmith.pipeline.calibration import calibrated
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import first_within
from netsmith.pipeline.finish import Finished, counts_of, export_network, train_network, training_recipe
from netsmith.pipeline.networks import test_exported
from netsmith.pipeline.searching.joint_costs import JointCosts
from netsmith.pipeline.searching.seek import MARGIN, Quest, run_search
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.values import floating_text
from netsmith.pipeline.work import EVALUATION_BATCH, SCORING_IMAGES, Work
from netsmith.search.joint import Effort, search_joint
from netsmith.spaces.joint import JointSpace
from netsmith.train import evaluate, recalibrate
from netsmith.trial import Trial

EFFORTS = {
    "quick": Effort(many=40, few=12, rounds=2, best=4),
    "standard": Effort(many=160, few=24, rounds=3, best=6),
    "thorough": Effort(many=600, few=60, rounds=4, best=12),
}
CALIBRATION_BATCHES = 8


def check_device(work: Work) -> None:
    """Raise :class:`SettingsError` where the device or a limit is not for files of two precisions."""
    device = work.bench.device
    if isinstance(device, TableDevice) or device.precision != "int8":
        raise SettingsError(
            f"strategy 'apq' chooses which parts are int8 by measuring files of both precisions, which "
            f"'{device.name}' does not take; name a device that measures, of int8, such as "
            "onnxruntime:precision=int8"
        )
    if work.budget.activation_bytes is not None:
        raise SettingsError(
            "activations are counted in one precision, and strategy 'apq' mixes two; leave the limit out, "
            "or limit --memory, which is measured"
        )


def joint_design(quest: Quest) -> None:
    """Everything from the quest of the int8 device to the result."""
    work = quest.work
    joint = Joint(quest)
    space, width = joint.space, quest.reach.width
    work.once("space", lambda: {"width": width, "count": str(space.count())}, id=space.id)
    work.progress.stage("Choosing architecture and precisions together")
    trials = joint.search()
    kept = sorted((t for t in trials if t.valid), key=lambda t: t.figures["error"])
    reasons: list[str] = []
    if not kept:
        reasons = ["no arch that was measured keeps the budget; this is the closest"]
        kept = [min(trials, key=lambda trial: work.budget.used(trial.figures))]
    best, broken = first_within(work, [partial(joint.trained, trial.arch) for trial in kept])
    networks = [best, *joint.beside(best)]
    work.progress.stage("Measuring everything")
    conclude(work, space, width, None, networks, [*reasons, *broken])


class Joint:
    """A quest's archs with precisions: judged, measured and trained, each once."""

    def __init__(self, quest: Quest) -> None:
        self.quest, self.work, self.space = quest, quest.work, JointSpace(quest.space)
        floating = _in_float32(quest)
        limits = self.work.budget.limits()
        if "latency_ms" in limits:
            limits["latency_ms"] *= MARGIN
        if "macs" in self.work.aims:
            limits["macs"] = self.work.aims["macs"]
        self.costs = JointCosts(
            self.space,
            {"int8": quest.model.block_ms, "float32": floating.block_ms},
            (quest.model.correction.constant_ms + floating.correction.constant_ms) / 2,
            limits,
        )
        self.work.progress.stage("Training the supernet")
        self.supernet = run_search([quest])

    def search(self) -> list[Trial]:
        """Return the trials of all files that were measured."""
        asked = self.work.settings
        effort = EFFORTS[asked.budget]
        return search_joint(self.space, self.costs, self.whole_error, self.measured, effort, asked.seed)

    def whole_error(self, arch: Arch) -> float:
        """Return the validation error of an arch of the chain, in float32 with the supernet's weights."""

        def judged() -> dict[str, float]:
            return {"error": 1 - evaluate(self._network(arch), self._scoring).accuracy}

        found = self.work.once("judged", judged, digest=arch.digest)
        self._tell(f"float32 error {100 * found['error']:.2f} %")
        return float(found["error"])

    def measured(self, arch: Arch) -> Trial:
        """Return the trial of an arch: its file with the supernet's weights, run and timed."""
        known = self.work.journal.last("trial", stage="measure", digest=arch.digest)
        if known is None:
            began = time.perf_counter()
            trial = self._trial(arch)
            known = self.work.journal.write(
                "trial",
                stage="measure",
                digest=arch.digest,
                trial=trial.to_dict(),
                seconds=round(time.perf_counter() - began, 3),
            )
        found = Trial.from_dict(known["trial"])
        self._tell(f"error {100 * found.figures['error']:.2f} %, {found.figures['latency_ms']:.3g} ms")
        return found

    def trained(self, arch: Arch, name: str) -> Finished:
        """Train the network of an arch, and return it with the file of its precisions."""
        work, plan = self.work, self.space.plan(arch)
        work.progress.stage("Training the network" if name == "design" else "Training the next best")
        start = self.supernet.extract(self.space.whole(arch)) if work.settings.start == "supernet" else None
        recipe = training_recipe(work, plan)
        module, outcome = train_network(work, name, plan, recipe, start=start)
        return self._finished(
            Finished(
                name=name,
                kind="design",
                plan=plan,
                arch=arch,
                module=module,
                counts=counts_of(work, plan),
                model=b"",
                validation_accuracy=outcome.last.accuracy,
                train_seconds=outcome.seconds,
            )
        )

    def beside(self, best: Finished) -> Iterator[Finished]:
        """Yield the same network in one precision throughout, and MobileNetV2, if they are asked for."""
        if self.work.settings.baselines == "none" or best.arch is None or best.plan is None:
            return
        choices = best.arch.choices[: len(self.space.chain.edges)]
        for name, precision in (("int8", 0), ("float32", 1)):
            arch = self.space.arch((*choices, *(precision for _ in self.space.parts)))
            if arch != best.arch:
                yield self._finished(replace(best, name=name, kind=name, arch=arch, train_seconds=0.0))
        yield from mobilenets(self.work, training_recipe(self.work, best.plan))

    def _finished(self, network: Finished) -> Finished:
        """The network with the file of its arch's precisions."""
        assert network.arch is not None
        floating = self._floating(network.module, network.arch)
        told = {x: "float32" if x in floating else "int8" for x in layers_with_weights(network.module)}
        model = export_network(self.work, network.module, network.name, floating=floating)
        return replace(network, model=model, described={"precisions": told})

    def _trial(self, arch: Arch) -> Trial:
        work, network = self.work, self._network(self.space.whole(arch))
        model = export_network(work, network, "design", floating=self._floating(network, arch))
        latency = work.bench.time_files({"design": model}, width=0.02, limit_s=3.0)["design"]
        figures = {
            **self.costs.figures(arch),
            "error": 1 - test_exported(work.bench.device, model, self._images).accuracy,
            "latency_ms": latency.median_ms,
            "size_bytes": float(len(model)),
        }
        if work.budget.peak_bytes is not None:
            figures["peak_bytes"] = float(work.bench.device.footprint(model).peak_bytes)
        doubted = {**figures, "latency_ms": latency.interval_ms[1]}
        return Trial(arch, figures, work.budget.broken(doubted))

    def _network(self, arch: Arch) -> Network:
        """The supernet's weights of an arch of the chain, their batch statistics estimated anew."""
        network = self.supernet.extract(arch)
        recalibrate(network, self._calibration, CALIBRATION_BATCHES)
        return network.eval()

    def _floating(self, network: nn.Module, arch: Arch) -> list[str]:
        places = self.space.floating(arch)
        return [name for name in layers_with_weights(network) if int(name.split(".")[1]) in places]

    def _tell(self, note: str) -> None:
        """Say how far the search is: by what it has judged and measured, of all that it will."""
        effort, journal = EFFORTS[self.work.settings.budget], self.work.journal
        done = len(journal.all("judged")) + len(journal.all("trial", stage="measure"))
        files = effort.few + effort.rounds * effort.best
        self.work.progress.update(done, effort.many + files + effort.rounds * effort.best, note)

    @cached_property
    def _images(self) -> Any:
        """The validation images that archs are judged by, in float32 and as files alike."""
        images = self.work.splits.validation
        return images.subset(torch.arange(min(len(images), SCORING_IMAGES)))

    @cached_property
    def _scoring(self) -> Any:
        return self.work.loader(self._images, EVALUATION_BATCH, shuffle=False)

    @cached_property
    def _calibration(self) -> Any:
        return self.work.loader(self.work.splits.train, EVALUATION_BATCH, salt=3)


def _in_float32(quest: Quest) -> LatencyModel:
    """The latency model of the quest's device in float32; read from the journal where it is known."""
    work = quest.work

    def found() -> dict[str, Any]:
        work.progress.stage("Profiling the device in float32")
        began = time.perf_counter()
        bench, warning = calibrated(parse(floating_text(work.settings.device)))
        if warning:
            work.warn(warning)
        model = profile(quest.space, bench, on_progress=work.progress.update)
        return {"model": model.to_dict(), "seconds": time.perf_counter() - began}

    return LatencyModel.from_dict(work.once("profile_float32", found)["model"])
