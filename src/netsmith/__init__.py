"""Netsmith designs convolutional networks for a device.

    import netsmith
    design = netsmith.design("digits", device="onnxruntime", latency_ms=0.2, seed=0)
    design.accuracy, design.latency_ms, design.module
    small, report = netsmith.prune(module, "digits", device="onnxruntime", macs="50%")
    q, report = netsmith.quantize(module, "digits", device="onnxruntime", size_bytes="40%")
    better, report = netsmith.grow(module, "digits", device="onnxruntime", params="150%")

Importing this package loads no PyTorch, no runtime and no plotting library; they come with what needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsmith.arch import Arch
from netsmith.budget import Budget
from netsmith.errors import NetsmithError
from netsmith.plan import Block, Plan
from netsmith.trial import Trial

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from netsmith.pipeline.answer import Design

__version__ = "0.1.0"
__all__ = [
    "Arch",
    "Block",
    "Budget",
    "NetsmithError",
    "Plan",
    "Trial",
    "design",
    "grow",
    "load",
    "prune",
    "quantize",
]


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

    asked: dict[str, Any] = {
        "data": _name_of(data),
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
    return run(chosen, folder, source=None if isinstance(data, str | Path) else data)


def prune(
    module: nn.Module,
    data: str | Path | Dataset[Any],
    *,
    device: str = "onnxruntime",
    latency_ms: float | str | None = None,
    peak_bytes: float | str | None = None,
    activation_bytes: float | str | None = None,
    size_bytes: float | str | None = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    strategy: str = "amc",
    budget: str = "standard",
    seed: int = 0,
    out: str | Path | None = None,
    **settings: Any,
) -> tuple[nn.Module, Design]:
    """Take channels out of a trained network until it keeps the limits, and train it on.

    ``module`` takes float images (N, C, H, W), pixels as 0..1 less ``mean`` and by ``std`` (one number or one
    a channel), and gives (N, classes) logits, in the order of the label names of ``data``. It is left as it
    is. Limits are numbers, or shares of what the module takes now, such as ``"50%"``. Returns a module that
    takes what ``module`` takes and is smaller, and the design with every figure, the exported file and the
    report in the folder ``out`` (``runs/`` and the name of the class where not given); called again for the
    same folder, one that was stopped goes on. Raises :class:`netsmith.errors.CompressionError` where the
    module cannot be pruned for these images.
    """
    asked = {
        "device": device, "latency": latency_ms, "memory": peak_bytes, "activations": activation_bytes,
        "size": size_bytes, "macs": macs, "params": params, "mean": mean, "std": std, "strategy": strategy,
        "budget": budget, "seed": seed, **settings,
    }  # fmt: skip
    answer = _from_own(module, data, asked, out, "compressed")
    return answer.network, answer


def quantize(
    module: nn.Module,
    data: str | Path | Dataset[Any],
    *,
    device: str = "onnxruntime",
    latency_ms: float | str | None = None,
    size_bytes: float | str | None = None,
    peak_bytes: float | str | None = None,
    max_drop: float | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    budget: str = "standard",
    seed: int = 0,
    out: str | Path | None = None,
    **settings: Any,
) -> tuple[nn.Module, Design]:
    """Write a trained network as an int8 file in which some layers stay float32, as they are measured.

    ``module``, ``data``, ``mean``, ``std`` and limits are as for :func:`prune`; the module is left as it is.
    Within limits it is the file of the least loss on validation images. Without any it is int8 throughout
    where that loses no more than ``max_drop`` (0.01 where not given) of the validation accuracy, 0..1, of
    float32; otherwise the fastest that was found to lose no more, which in the worst case is float32.

    Returns a module that takes what ``module`` takes and gives what the file gives, rounded where that rounds
    (:attr:`netsmith.pipeline.answer.Design.quantized`), and the design with every figure, the exported file
    and the report in the folder ``out`` (``runs/`` and the name of the class where not given); called again
    for the same folder, one that was stopped goes on. Raises :class:`netsmith.errors.BudgetError` where no
    choice of layers should keep the limits, and :class:`netsmith.errors.CompressionError` as :func:`prune`.
    """
    asked = {
        "device": device, "latency": latency_ms, "size": size_bytes, "memory": peak_bytes, "mean": mean,
        "std": std, "max_drop": max_drop, "budget": budget, "seed": seed, "precision": "mixed", **settings,
    }  # fmt: skip
    answer = _from_own(module, data, asked, out, "quantized")
    return answer.quantized, answer


def grow(
    module: nn.Module,
    data: str | Path | Dataset[Any],
    *,
    device: str = "onnxruntime",
    latency_ms: float | str | None = None,
    peak_bytes: float | str | None = None,
    activation_bytes: float | str | None = None,
    size_bytes: float | str | None = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    budget: str = "standard",
    seed: int = 0,
    out: str | Path | None = None,
    **settings: Any,
) -> tuple[nn.Module, Design]:
    """Grow paths in a trained network up to the limits, keeping what it learned, and train it on.

    ``module``, ``data``, ``mean``, ``std`` and limits are as for :func:`prune`, limits as shares up to
    ``"10000%"``; the module is left as it is. A tree of paths takes the place of each convolution larger than
    1x1 (path-level transformation, Cai et al. 2018). Returns a module that takes what ``module`` takes, and
    the design with every figure, the exported file and the report in the folder ``out`` (``runs/`` and the
    name of the class where not given); called again for the same folder, one that was stopped goes on. Raises
    :class:`netsmith.errors.TransformError` where no layer of the module can grow.
    """
    asked = {
        "device": device, "latency": latency_ms, "memory": peak_bytes, "activations": activation_bytes,
        "size": size_bytes, "macs": macs, "params": params, "mean": mean, "std": std,
        "strategy": "path-level", "budget": budget, "seed": seed, **settings,
    }  # fmt: skip
    answer = _from_own(module, data, asked, out, "grown")
    return answer.network, answer


def load(folder: str | Path, module: nn.Module | None = None) -> Design:
    """Read a finished design from its folder.

    ``module`` is the network that was pruned or grew, where that was one's own: its Python is not in the
    folder. Raises :class:`netsmith.errors.FolderError`.
    """
    from netsmith.pipeline.answer import Design

    return Design.load(folder, module)


def _from_own(
    module: nn.Module,
    data: str | Path | Dataset[Any],
    asked: dict[str, Any],
    out: str | Path | None,
    how: str,
) -> Design:
    """Design from a network of the caller's own as ``asked``, where None is not."""
    from netsmith.pipeline.compression.compressed import own_compression
    from netsmith.pipeline.design import run

    name = type(module).__name__
    given = {setting: value for setting, value in asked.items() if value is not None}
    chosen = own_compression(f"module {name}", _name_of(data), given)
    folder = Path(out) if out is not None else Path("runs") / f"{name}-{how}"
    source = None if isinstance(data, str | Path) else data
    return run(chosen, folder, source=source, module=module)


def _name_of(data: str | Path | Dataset[Any]) -> str:
    """What settings call the images by."""
    return str(data) if isinstance(data, str | Path) else f"dataset {type(data).__name__}"
