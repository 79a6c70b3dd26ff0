"""The networks that growth begins with where nobody has one: trained first, in the same folder."""

from __future__ import annotations

from dataclasses import replace

import torch

from netsmith.errors import BudgetError
from netsmith.nn.starts import WIDTHS, Start
from netsmith.pipeline.base import Base, base_of, digest_of, noted
from netsmith.pipeline.finish import counts_of, train_network, training_recipe
from netsmith.pipeline.growing.growth import growing_sites
from netsmith.pipeline.parts import SHARE
from netsmith.pipeline.searching.short_training import measured
from netsmith.pipeline.way import STARTS
from netsmith.pipeline.work import Work

# What a network takes of the limits before it grows. The least that growth adds, a second path beside every
# 3x3 convolution, takes about as much again.
ROOM = 0.5


def begun_with(work: Work) -> Base:
    """Return the trained network that a design grows: its base, or a start that is trained here.

    Raises what :func:`netsmith.pipeline.base.base_of` does, and :class:`BudgetError` where even the narrowest
    start is over the limits.
    """
    name = work.settings.base
    if name not in STARTS:
        return base_of(work)
    work.progress.stage(f"Choosing the width of the {name} to begin with")
    width = work.once("start", lambda: {"width": _fit_width(work, name)})["width"]
    start = Start(name, width, work.splits.input_shape, work.splits.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.settings.seed)
        network = start.network()
    work.set_threads(network)
    work.progress.stage(f"Training the {name} to begin with")
    recipe = training_recipe(work, network, replace(work.settings, share=SHARE * work.settings.share))
    module, outcome = train_network(work, "base", None, recipe, start=network)
    base = Base(
        module,
        figures={"validation_accuracy": outcome.last.accuracy, "train_seconds": outcome.seconds},
        images=work.splits.digest,
        digest=digest_of(module),
        described={"start": start.to_dict()},
    )
    noted(work, base)
    return base


def _fit_width(work: Work, name: str) -> float:
    """The greatest width at which a start takes ``ROOM`` of what a design may use up."""
    shares: dict[float, float] = {}
    for width in WIDTHS:
        network = Start(name, width, work.splits.input_shape, work.splits.classes).network()
        if not growing_sites(network)[0]:
            continue
        macs = counts_of(work, network).macs
        if shares and macs > ROOM * work.aims.get("macs", macs / ROOM):
            break
        figures = measured(work, network)["figures"]
        shares[width] = max(figures[f] / aim for f, aim in work.aims.items() if f in figures)
        if shares[width] > ROOM:
            break
    least = min(shares)
    if shares[least] > 1:
        raise BudgetError(
            f"the narrowest {name} that can grow takes {shares[least]:.3g} times what the limits allow for, "
            "before it grows; allow for more, or begin with another network"
        )
    return max((width for width, share in shares.items() if share <= ROOM), default=least)
