"""The page of a latency model: what blocks take on a device, and how well networks are predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netsmith.report import page, prediction


def write_profile(
    path: Path,
    *,
    device: str,
    fingerprint: Mapping[str, str],
    space: str,
    seconds: float,
    correction: str,
    heldout: Mapping[str, Any],
    predictors: Mapping[str, Mapping[str, Any]],
    blocks: Sequence[Mapping[str, Any]],
) -> None:
    """Write the page of the latency model of ``space`` on ``device``, built in ``seconds``.

    ``correction`` says in a line how networks follow from blocks. ``heldout`` and each of ``predictors``, by
    name, are the values of :meth:`netsmith.latency.heldout.HeldOut.to_dict`. A block has its ``name``, its
    ``kernel``, its ``macs`` and the milliseconds ``alone_ms`` and ``network_ms``: what it takes alone and
    adds to a network. Raises :class:`netsmith.errors.FolderError` where ``path`` cannot be written.
    """
    drawn = {"heldout": prediction.heldout(heldout), "costs": prediction.block_costs(blocks)}
    content = page.compose(
        "profile.html",
        drawn,
        device=device,
        fingerprint=fingerprint,
        space=space,
        seconds=seconds,
        correction=correction,
        heldout=heldout if heldout.get("points") else {},
        predictors=predictors,
        blocks=sorted(blocks, key=lambda block: -block["network_ms"]),
    )
    page.write(path, content)
