"""What is asked of a design that grows paths: what follows from the network that it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from netsmith.errors import SettingsError
from netsmith.pipeline.answer import Design
from netsmith.pipeline.compression.compressed import OF_BASE
from netsmith.pipeline.own import is_own, named_network
from netsmith.pipeline.settings import merge, read_toml
from netsmith.pipeline.way import GROWN, STARTS


def from_base(values: Mapping[str, Any]) -> tuple[dict[str, Any], nn.Module | None]:
    """Return the settings of a design with what follows from its ``base``, and the user's own network.

    A finished design lends what is not asked for otherwise: images and how they are split, and the device.
    Python of the user's own runs here: ``base`` must come from the user, and not from a file. Raises
    :class:`netsmith.errors.NetsmithError` where there is no such network.
    """
    asked = {"strategy": GROWN[1], **values}
    name, weights = asked["base"], asked.get("base_weights")
    if name in STARTS:
        return asked, None
    if is_own(name):
        module, found = named_network(name, None if weights is None else Path(weights))
        return {"mean": 0.0, "std": 1.0, **found, **asked}, module
    Design.load(name)
    made = merge(read_toml(Path(name) / "design.toml"), {})
    if len(made) != 1:
        raise SettingsError(f"{name} is of several devices; name the folder of one of them inside it")
    return {**{each: getattr(made[0], each) for each in ("device", *OF_BASE)}, **asked}, None
