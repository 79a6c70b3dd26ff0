"""Designs that keep a trained network as it is, and choose which layers of its int8 file stay float32.

Every choice is a file that is written, run over validation images and timed on the device: what a layer gains
and costs there is not guessed. The network is trained only where epochs of fine-tuning are asked for, after
the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from netsmith.compress.agent import check_agent
from netsmith.compress.floating import within
from netsmith.devices.device import parse
from netsmith.errors import SettingsError
from netsmith.pipeline.answer import QUANTIZED
from netsmith.pipeline.base import base_of
from netsmith.pipeline.compression.precisions import LIMITED, Precisions
from netsmith.pipeline.compression.tuning import tuned
from netsmith.pipeline.conclude import conclude
from netsmith.pipeline.deliver import first_within
from netsmith.pipeline.finish import Finished, export_network
from netsmith.pipeline.values import device_text
from netsmith.pipeline.work import Work

# What is aimed at of a latency: measured again, for longer, it should keep the limit too.
_MARGIN = 0.99


def int8(device: str) -> str:
    """Return the text of the device at whose int8 files the precisions are chosen."""
    return device if "precision=" in device else device_text(device, 1, "int8")


def mixed_design(work: Work) -> None:
    """Everything from the network to the result."""
    _check_device(work)
    if work.settings.way.strategy == "haq":
        check_agent()  # before anything is measured
    work.read_images()
    work.progress.stage("Reading the network")
    base = base_of(work)
    precisions = Precisions(work, base, _limits(work))
    space = precisions.space
    work.once("space", lambda: {"id": space.id, "width": 1.0, "count": str(space.count())})
    work.progress.stage("Measuring precisions")
    best, reasons = _best(precisions)
    if work.settings.epochs is not None:
        best = tuned(precisions, best)
    _keep_graph(precisions, best)
    work.progress.stage("Measuring everything")
    conclude(work, space, 1.0, None, [best, *_beside(precisions)], reasons)


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
