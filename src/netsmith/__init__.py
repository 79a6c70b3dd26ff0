"""Netsmith designs convolutional networks for a device.

    import netsmith
    design = netsmith.design("digits", device="onnxruntime", latency_ms=0.2, seed=0)
    design.accuracy, design.latency_ms, design.module

Importing this package loads no PyTorch, no runtime and no plotting library; they come with what needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.errors import NetsmithError
from netsmith.plan import Block, Plan
from netsmith.trial import Trial

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from netsmith.pipeline.answer import Design

__version__ = "0.1.0"
__all__ = ["Arch", "Block", "Budget", "NetsmithError", "Plan", "Trial", "design", "load"]


def design(
    data: str | Path | Dataset[Any],
    *,
    device: str = "onnxruntime",
    latency_ms: float | None = None,
    peak_bytes: float | None = None,
    activation_bytes: float | None = None,
    size_bytes: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    budget: str = "standard",
    seed: int = 0,
    out: str | Path | None = None,
    **settings: Any,
) -> Design:
    """Design a network for ``data`` on ``device`` within the limits, and return the answer.

    ``data`` is ``"digits"``, a folder, a file or a PyTorch dataset of (image, label). ``budget`` is how much
    work may be spent: quick, standard or thorough. ``out`` is the folder of the design (``runs/`` and a
    name made of data and seed where not given); called again for the same folder and settings, a design
    that was stopped goes on, and one that is finished is read. Further ``settings`` are those of
    :class:`netsmith.pipeline.settings.Settings`; an unknown one raises
    :class:`netsmith.errors.SettingsError`.
    """
    from netsmith.pipeline.design import run
    from netsmith.pipeline.settings import Settings

    named = isinstance(data, str | Path)
    asked: dict[str, Any] = {
        "data": str(data) if named else f"dataset {type(data).__name__}",
        "device": device,
        "latency": latency_ms,
        "memory": peak_bytes,
        "activations": activation_bytes,
        "size": size_bytes,
        "macs": macs,
        "params": params,
        "budget": budget,
        "seed": seed,
        **settings,
    }
    chosen = Settings.from_mapping({k: v for k, v in asked.items() if v is not None})
    folder = Path(out) if out is not None else chosen.default_folder()
    return run(chosen, folder, source=None if named else data)


def load(folder: str | Path) -> Design:
    """Read a finished design from its folder. Raises :class:`netsmith.errors.FolderError`."""
    from netsmith.pipeline.answer import Design

    return Design.load(folder)
