"""A design that is compressed within its own budget: what is asked of each of its two parts.

The first part is the network before: a design like any other, in a folder inside, whose limits are looser.
The second takes channels out of it until the limits hold, and trains it on. Each part has a share of the
epochs that a design without compression would train for, so that both together cost about as much.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsmith.errors import SettingsError
from netsmith.pipeline.limits import BOUNDING, LIMITS

if TYPE_CHECKING:
    from netsmith.pipeline.settings import Settings

PLACE = "before"  # the folder of the network before, in that of the design
LOOSER, MOST_LOOSER = 1.5, 10.0
# Of the epochs, for the network before; what is left of it gets the rest.
SHARE = 0.5
STRATEGY = "knapsack"  # chooses channels in seconds, where an agent walks over the network hundreds of times
TABLE = "table:"


def check_parts(asked: Settings) -> None:
    """Raise :class:`SettingsError` where a design cannot be compressed as it is asked for."""
    looser = asked.looser
    if not asked.compress:
        if looser is not None:
            raise SettingsError("looser is of the network before compression: it goes with --compress")
        return
    if looser is not None and (type(looser) not in (int, float) or not 1 < looser <= MOST_LOOSER):
        raise SettingsError(
            f"looser is how many times its limits the network before compression may take, over 1 and up to "
            f"{MOST_LOOSER:g}; got {looser!r:.100}"
        )
    if asked.base is not None:
        raise SettingsError("compress is of a new design; one with a base is a compression already")
    if asked.way.space != "mbconv":
        raise SettingsError(
            f"channels are taken out of networks of space 'mbconv'; got space '{asked.way.space}' of "
            f"strategy '{asked.way.strategy}'. Leave --compress out"
        )
    if len(asked.figures) > 1:
        raise SettingsError("compress keeps one budget and finds no front; name one objective, the error")
    if asked.device.startswith(TABLE):
        raise SettingsError(
            "a table of latencies knows the blocks of whole networks, not what is left of them: --compress "
            "needs a device that measures"
        )
    if not set(asked.limits().limits()) & set(BOUNDING):
        raise SettingsError(
            "a network is compressed to a limit of latency, macs, params or size; give one, such as "
            "--latency 0.5ms"
        )


def before(asked: Settings) -> Settings:
    """Return the settings of the network before compression.

    Only limits that channels are chosen by are looser: others are not steered by, so that the network before
    keeps them already.
    """
    figures = asked.limits().limits()
    limits: dict[str, Any] = {
        name: looser_of(asked) * figures[f] for name, f in LIMITS.items() if f in BOUNDING & figures.keys()
    }
    return replace(asked, compress=False, looser=None, baselines="none", share=SHARE * asked.share, **limits)


def after(asked: Settings, folder: Path) -> Settings:
    """Return the settings of what is left of the network before, which is in the design's ``folder``."""
    return replace(
        asked,
        compress=False,
        looser=None,
        base=str(folder / PLACE),
        share=(1 - SHARE) * asked.share,
        strategy=STRATEGY,
        space="auto",
        judge="auto",
        objectives="auto",
        storage=None,
        workers=1,
        width=None,
        stages=None,
    )


def looser_of(asked: Settings) -> float:
    """Return how many times its limits the network before compression may take."""
    return LOOSER if asked.looser is None else asked.looser
