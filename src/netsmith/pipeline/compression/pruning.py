"""A trained network whose channels are to go: what goes together, what is left of it, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from random import Random
from typing import Any

from torch import nn

from netsmith.arch import Arch
from netsmith.compress.allocation import Choices, drawn, kept_of, uniform
from netsmith.compress.channels import Channels
from netsmith.compress.dependencies import channels_of
from netsmith.compress.importance import Scores, magnitude, taylor
from netsmith.compress.planned import pruned_network, pruned_space
from netsmith.compress.slicing import pruned
from netsmith.devices.device import WEIGHT_BYTES
from netsmith.errors import CompressionError, SettingsError
from netsmith.latency.layers import LayerModel, fit_layers
from netsmith.nn.network import Network
from netsmith.pipeline.base import Base
from netsmith.pipeline.finish import counts_of, deployable, export_network
from netsmith.pipeline.limits import BOUNDING
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.plan import Plan
from netsmith.spaces.pruned import Narrowing, PrunedSpace, WidthSpace
from netsmith.train import evaluate, recalibrate

CALIBRATION_BATCHES, SCORED_BATCHES = 4, 8
CALIBRATED = 28  # networks that are measured so that others can be predicted
_CLOSE, _TRIES = 0.02, 4


class Pruning:
    """The base of a compression with its groups of channels; ``cost`` is what widths are chosen by.

    The cost is the greatest share of a limit that is used up, so that 1 is the limit of them all. Latency is
    predicted by a model of the layers that is fitted to some networks of other widths, measured whole; then
    scaled until it is right for the network that is pruned everywhere alike. ``limits`` are those of the
    settings where none are given.
    """

    def __init__(self, work: Work, base: Base, limits: Mapping[str, float] | None = None) -> None:
        self.work, self.base, self.network = work, base, base.module
        found = channels_of(self.network, work.splits.input_shape)
        if not found.groups:
            why = "; ".join(f"'{name}': {reason}" for name, reason in found.untouched.items())
            raise CompressionError(f"no channel of this network can be taken out. {why:.1000}")
        self.space = self._space_of(found)
        names = {group.name for group in self.space.groups}
        self.channels = replace(found, groups=tuple(g for g in found.groups if g.name in names))
        self.choices = Choices(self.channels)
        asked = work.budget.limits() if limits is None else limits
        self.limits = {name: limit for name, limit in asked.items() if name in BOUNDING}
        if not self.limits:
            raise SettingsError(
                "a network is compressed to a limit of latency, macs, params or size; give one, such as "
                "--macs 50%"
            )

    def cost(self, widths: Mapping[str, int]) -> float:
        """Return the greatest share of a limit that the network nearest to these widths uses up."""
        widths = self.space.widths(self.space.nearest(widths))
        macs, params = self._besides + self.channels.macs(widths), self.channels.params(widths)
        figures: dict[str, float] = {"macs": macs, "params": params}
        if "size_bytes" in self.limits:
            figures["size_bytes"] = self._overhead + self._each * params
        if "latency_ms" in self.limits:
            figures["latency_ms"] = self.predicted_ms(widths)
        return max(figures[name] / limit for name, limit in self.limits.items())

    def predicted_ms(self, widths: Mapping[str, int]) -> float:
        """Return the latency that a network of these widths should take."""
        return self._scale * self._model.predict(self.channels.shapes(widths))

    def known(self, arch: Arch) -> dict[str, float]:
        """Return what is known of an arch without its accuracy and without measuring it."""
        counts = counts_of(self.work, self.plan(arch) or self.start(arch))
        precision = self.work.bench.device.precision
        figures = {
            "macs": float(counts.macs),
            "params": float(counts.params),
            "size_bytes": self._overhead + self._each * counts.params,
            "activation_bytes": float(activation_bytes(counts, precision)),
        }
        if "latency_ms" in self.limits:
            figures["latency_ms_predicted"] = self.predicted_ms(self.space.widths(arch))
        return figures

    def plan(self, arch: Arch) -> Plan | None:
        """Return the blocks of what is left, where the base has a plan."""
        return None if isinstance(self.space, WidthSpace) else self.space.plan(arch)

    def start(self, arch: Arch) -> nn.Module:
        """Return what is left of the base: its weights, without training, with its own batch statistics."""
        kept = kept_of(self.channels, self.magnitude, self.space.widths(arch))
        plan = self.plan(arch)
        if plan is None or not isinstance(self.network, Network):
            return pruned(self.network, self.channels, kept).eval()
        return pruned_network(self.network, plan, self.channels, kept)

    def layers(self, arch: Arch) -> list[dict[str, Any]]:
        """Return what each layer had and what is left of it, in the order in which they run."""
        pairs = zip(self.channels.layers, self.channels.shapes(self.space.widths(arch)), strict=True)
        return [
            {
                "name": before.name,
                "kernel": list(before.kernel),
                "depthwise": before.depthwise,
                "inputs": [before.in_channels, after.in_channels],
                "outputs": [before.out_channels, after.out_channels],
                "macs": [before.macs, after.macs],
                "untouched": self.channels.untouched.get(before.name, ""),
            }
            for before, after in pairs
        ]

    @property
    def teacher(self) -> nn.Module | None:
        """The base, where what is left of it is to learn from its outputs."""
        return self.network if self.work.settings.teacher else None

    def error(self, arch: Arch) -> float:
        """Return the validation error of what is left, its batch statistics estimated anew; found once."""

        def judged() -> dict[str, float]:
            network = self.start(arch)
            recalibrate(network, self._calibration, CALIBRATION_BATCHES)
            return {"accuracy": evaluate(network, self.work.scoring).accuracy}

        return 1 - float(self.work.once("judged", judged, digest=arch.digest)["accuracy"])

    def draw(self, rng: Random, limit: float) -> Arch:
        """Draw an arch of cost ``limit`` or a little less."""
        return self.space.nearest(next(drawn(self.choices, self.cost, limit, rng.getrandbits(31))))

    def measured(self, arch: Arch) -> dict[str, Any]:
        """Return the latency of an arch, its interval, and its size and memory as a file; found once."""
        return self.work.once("measured", partial(self._measured, arch), digest=arch.digest)

    @cached_property
    def magnitude(self) -> Scores:
        """What channels are worth by the weights that read them: by this they go."""
        return magnitude(self.network, self.channels)

    @cached_property
    def taylor(self) -> Scores:
        """What channels are worth by the loss's change on some training images: by this groups compare."""
        loader = self.work.loader(self.work.splits.train, EVALUATION_BATCH, salt=6)
        batches = (batch for _, batch in zip(range(SCORED_BATCHES), loader.epoch(0), strict=False))
        return taylor(self.network, self.channels, batches)

    def _space_of(self, found: Channels) -> PrunedSpace | WidthSpace:
        widths = Choices(found).of
        if self.base.plan is not None:
            return pruned_space(self.base.plan, found, widths)
        groups = tuple(Narrowing(group.name, tuple(widths[group.name])) for group in found.groups)
        return WidthSpace(self.base.digest, groups)

    @cached_property
    def _besides(self) -> int:
        """Multiply-adds that are neither of a convolution nor of a linear layer."""
        return max(0, counts_of(self.work, self.base.plan or self.network).macs - self.channels.macs({}))

    @property
    def _each(self) -> int:
        return WEIGHT_BYTES[self.work.bench.device.precision]

    @cached_property
    def _overhead(self) -> float:
        """The bytes of the whole network's file that are not its learned numbers."""

        def found() -> dict[str, float]:
            size = len(export_network(self.work, self.network, "base"))
            return {"bytes": float(size - self._each * self.channels.params({}))}

        return float(self.work.once("overhead", found)["bytes"])

    @cached_property
    def _model(self) -> LayerModel:
        def found() -> dict[str, Any]:
            rng = Random(0)
            archs = dict.fromkeys([self.space.nearest({}), self.space.nearest(self.choices.least)])
            archs.update(dict.fromkeys(self.space.sample(rng) for _ in range(CALIBRATED)))
            self.work.progress.stage("Measuring networks of other widths")
            times = []
            for count, arch in enumerate(archs, 1):
                times.append(float(self.measured(arch)["latency_ms"]))
                self.work.progress.update(count, len(archs), f"{times[-1]:.3g} ms")
            networks = [self.channels.shapes(self.space.widths(arch)) for arch in archs]
            return {"model": fit_layers(networks, times).to_dict()}

        model = LayerModel.from_dict(self.work.once("calibrated", found)["model"])
        if not math.isnan(model.error):
            self.work.progress.say(
                f"latency is predicted within {100 * model.error:.1f} % on average of networks left out"
            )
        return model

    @cached_property
    def _scale(self) -> float:
        """What makes the model right for the network that is pruned everywhere alike, at the limit."""

        def found() -> dict[str, float]:
            limit, scale = self.limits["latency_ms"], 1.0

            def share(widths: Mapping[str, int]) -> float:
                return scale * self._model.predict(self.channels.shapes(widths)) / limit

            for _ in range(_TRIES):
                if share(self.choices.least) > 1:
                    break
                arch = self.space.nearest(uniform(self.choices, share, 1.0))
                off = float(self.measured(arch)["latency_ms"]) / (limit * share(self.space.widths(arch)))
                scale *= off
                if abs(off - 1) < _CLOSE:
                    break
            return {"scale": scale}

        return float(self.work.once("scaled", found)["scale"])

    def _measured(self, arch: Arch) -> dict[str, Any]:
        work = self.work
        device = work.bench.device
        model = device.export(deployable(work, self.start(arch)), work.splits.input_shape, input_type="uint8")
        latency = work.bench.time_files({arch.digest: model}, width=0.02, limit_s=3.0)[arch.digest]
        found = {
            "latency_ms": latency.median_ms,
            "latency_ms_high": latency.interval_ms[1],
            "size_bytes": float(len(model)),
        }
        if work.budget.peak_bytes is not None:
            found["peak_bytes"] = float(device.footprint(model).peak_bytes)
        return found

    @cached_property
    def _calibration(self) -> Any:
        return self.work.loader(self.work.splits.train, EVALUATION_BATCH, salt=3)
