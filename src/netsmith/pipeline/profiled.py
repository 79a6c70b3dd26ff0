"""The latency table of a design's device for its space, and for the networks beside it."""

from __future__ import annotations

import time

from netsmith.latency.model import LatencyModel
from netsmith.latency.profile import profile
from netsmith.pipeline.baselines import mobilenet_widths
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import Work
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.spaces.space import BlockSpace


def profiled(work: Work, space: BlockSpace) -> LatencyModel:
    """Build the device's latency table for the space, or read it from the journal."""
    work.progress.stage("Profiling the device")
    known = work.journal.last("profile")
    if known is not None:
        return LatencyModel.from_dict(known["model"])
    started, device = time.perf_counter(), work.bench.device
    if isinstance(device, TableDevice):
        model = device.model_of(space)
    else:
        shape, classes = work.splits.input_shape, work.splits.classes
        compared = [mobilenetv2(shape, classes, width) for width in mobilenet_widths(work)]
        extra = list(dict.fromkeys(block for plan in compared for block in plan.blocks))
        model = profile(space, work.bench, extra=extra, on_progress=work.progress.update)
    work.journal.write(
        "profile",
        blocks=len(space.blocks),
        seconds=time.perf_counter() - started,
        heldout=model.heldout.to_dict(),
        model=model.to_dict(),
    )
    work.progress.say(model.heldout.describe())
    return model
