"""What a compression begins with: the network of a finished design, or one of the user's own."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netsmith.errors import CompressionError, FolderError, SettingsError
from netsmith.export.module import OnnxModule
from netsmith.journal import read
from netsmith.nn.count import Counts, count
from netsmith.pipeline.answer import Design
from netsmith.pipeline.finish import Finished, counts_of, export_network
from netsmith.pipeline.own import is_file, read_network
from netsmith.pipeline.searching.reach import activation_bytes
from netsmith.pipeline.tabled import TableDevice
from netsmith.pipeline.work import EVALUATION_BATCH, Work
from netsmith.plan import Plan
from netsmith.train import evaluate

UNFOLDING_BATCHES = 4
HARDLY_MORE = 0.1  # of what is above chance: below that something is not as it was in the network's training
MOST_ACTIVATION_BYTES = 8 * 2**30  # of one image: a file that asks for more is an error or an attack


@dataclass(frozen=True)
class Base:
    """A trained network; ``module`` takes normalised images (N, C, H, W) and gives (N, classes) logits.

    ``plan`` is None of the user's own. ``figures`` are what is known of it on the device of its design;
    ``images`` the digest of the images that it was trained on, where that is known; ``digest`` that of the
    weights as they came; ``described`` what rebuilds it without them, where it is not the user's own.
    """

    module: nn.Module
    plan: Plan | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    images: str | None = None
    digest: str = ""
    described: Mapping[str, Any] = field(default_factory=dict)


def designed(folder: Path) -> Base:
    """Return the network of a finished design. Raises :class:`FolderError` where there is none."""
    design = Design.load(folder)
    if not design.blocks:
        raise FolderError(
            f"{folder} holds a grown network, or what is left of one of your own; begin with what it came "
            "from"
        )
    digests = [event["digest"] for event in read(folder / "journal") if event["event"] == "data"]
    network, plan = design.static_network, Plan(design.blocks)
    return Base(
        network,
        plan,
        design.result,
        digests[-1] if digests else "",
        digest_of(network),
        {"plan": plan.to_list()},
    )


def own(module: nn.Module) -> Base:
    """Return a network of the user's own, as a copy in float32 on the processor, whose weights can learn."""
    module = copy.deepcopy(module).float().cpu().eval()
    if not any(parameter.requires_grad for parameter in module.parameters()):
        module.requires_grad_(True)
    return Base(module, digest=digest_of(module))


def layers_with_weights(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the convolutions and linear layers, whose precision may be chosen, in order."""
    return tuple(
        name for name, layer in module.named_modules() if name and isinstance(layer, nn.Conv2d | nn.Linear)
    )


def digest_of(module: nn.Module) -> str:
    """Return 32 hexadecimal digits that change with any weight, or the name or shape of one."""
    state = hashlib.blake2b(digest_size=16)
    for name, value in module.state_dict().items():
        state.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
        state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def base_of(work: Work) -> Base:
    """Return the base of a design, checked against its images and against what the folder was begun with.

    What limits in percent are shares of stands in the journal from here on. Raises :class:`SettingsError`,
    :class:`FolderError` and :class:`CompressionError`.
    """
    name = work.settings.base
    assert name is not None
    if work.module is not None:
        base = own(work.module)
    elif not work.settings.own:
        base = designed(Path(name))
    elif is_file(name):
        base = own(read_network(name))
    else:
        raise SettingsError(
            f"the base is '{name}', Python of the user's own, which runs only where it is named on the "
            "command line of netsmith compress, or given to netsmith.prune"
        )
    _check(work, base)
    if isinstance(base.module, OnnxModule):
        loader = work.loader(work.splits.train, EVALUATION_BATCH, salt=7)
        base.module.unfold(x for _, (x, _) in zip(range(UNFOLDING_BATCHES), loader.epoch(0), strict=False))
    noted(work, base)
    return base


def noted(work: Work, base: Base) -> None:
    """Write down what limits in percent are shares of. Raises :class:`FolderError` on another base."""
    known = work.journal.last("base")
    if known is None:
        work.journal.write("base", digest=base.digest, figures=_figures(work, base))
    elif known["digest"] != base.digest:
        raise FolderError(
            f"the network '{work.settings.base}' is not the one that {work.folder.path} was begun with: its "
            "weights are others; choose another --out for it"
        )


def whole(work: Work, base: Base) -> Finished:
    """Return the base as it was, beside what is left of it."""

    accuracy = base.figures.get("validation_accuracy")
    return Finished(
        name="base",
        kind="base",
        plan=base.plan,
        arch=None,
        module=base.module,
        counts=counts_of(work, base.plan or base.module),
        model=export_network(work, base.module, "base"),
        validation_accuracy=_accuracy(work, base.module) if accuracy is None else accuracy,
        train_seconds=base.figures.get("train_seconds") or 0.0,
    )


def _check(work: Work, base: Base) -> None:
    """Refuse what the images do not fit, and say what the user should know."""
    splits, settings = work.splits, work.settings
    if base.plan is not None:
        if base.images != splits.digest:
            raise FolderError(
                f"the images of '{settings.data}' are not those that {settings.base} was designed for; put "
                "them back where they were"
            )
        return
    if isinstance(work.bench.device, TableDevice):
        raise SettingsError("a table of latencies knows Netsmith's own blocks alone; name a device")
    check_fits(base.module, splits.input_shape, splits.classes)
    accuracy, chance = _accuracy(work, base.module), 1 / splits.classes
    if accuracy < chance + HARDLY_MORE * (1 - chance):
        work.warn(
            f"the network as it came is right on {100 * accuracy:.1f} % of the validation images, hardly "
            f"more than guessing among {splits.classes} labels. Are its weights, --mean and --std, and the "
            f"order of the labels ({', '.join(splits.label_names)[:100]}) those that it was trained with?"
        )
    if work.journal.all("data")[-1].get("drawn_test"):
        work.warn(
            "the test part was drawn from the images: a network that learned from some of them looks better "
            "than it is, and so does what is left of it. Name a test part that it never saw by --test"
        )


def _accuracy(work: Work, module: nn.Module) -> float:
    """The share of the validation images that a network is right on as it came; found once."""

    def judged() -> dict[str, Any]:
        images = work.loader(work.splits.validation, EVALUATION_BATCH, shuffle=False)
        return {"accuracy": evaluate(module, images).accuracy}

    return float(work.once("whole", judged)["accuracy"])


def check_fits(module: nn.Module, shape: tuple[int, int, int], classes: int) -> Counts:
    """Count a network of the user's own for images of ``shape``, and try it on two.

    Raises :class:`CompressionError` where it fails on them, or does not give so many numbers for each.
    """
    uncounted: Exception | None = None
    try:
        counts = count(module, shape)  # computes nothing, so that what is too large is found out first
    except Exception as error:  # whatever a foreign module's forward raises
        uncounted = error
        if isinstance(module, OnnxModule):  # a file may be made to fill the memory
            raise _fails(shape, error) from error
    else:
        if counts.peak_activation_bytes > MOST_ACTIVATION_BYTES:
            raise CompressionError(
                f"the network's activations take {counts.peak_activation_bytes:.3g} bytes for an image of "
                f"{shape}; at most {MOST_ACTIVATION_BYTES} are tried"
            )
    try:
        with torch.no_grad():
            given = module.eval()(torch.zeros(2, *shape))
    except Exception as error:  # whatever a foreign module's forward raises
        raise _fails(shape, error) from error
    if uncounted is not None:
        raise CompressionError(
            f"the network's multiply-adds cannot be counted: {uncounted!s:.300}. Tensors that a module holds "
            "must be parameters or buffers (register_buffer), and its forward must not look at values"
        ) from uncounted
    found = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if found != (2, classes):
        raise CompressionError(
            f"the network gives {found} for two images; the data have {classes} labels, so that "
            f"(2, {classes}) is needed: one number for each label, in the order of their names"
        )
    return counts


def _fails(shape: tuple[int, int, int], error: Exception) -> CompressionError:
    return CompressionError(
        f"the network fails on images of {shape} (channels, height, width), which the data have: "
        f"{error!s:.300}. --image-size N resizes them to N x N"
    )


def _figures(work: Work, base: Base) -> dict[str, float]:
    """What the limits in percent are shares of: the design's own figures, or what is found out here."""
    asked = work.settings.shares
    if base.plan is not None:
        return {name: float(base.figures[name]) for name in asked}
    counts, device = counts_of(work, base.module), work.bench.device
    found = {
        "macs": float(counts.macs),
        "params": float(counts.params),
        "activation_bytes": float(activation_bytes(counts, device.precision)),
    }
    if {"latency_ms", "size_bytes", "peak_bytes"} & set(asked):
        # Where precisions are to be chosen the device's files are int8, which the network is not yet.
        floating = layers_with_weights(base.module) if work.settings.precision == "mixed" else ()
        model = export_network(work, base.module, "base", floating=floating)
        found["size_bytes"] = float(len(model))
        if "latency_ms" in asked:
            found["latency_ms"] = work.bench.time_files({"base": model})["base"].median_ms
        if "peak_bytes" in asked:
            found["peak_bytes"] = float(device.footprint(model).peak_bytes)
    return {name: found[name] for name in asked}
