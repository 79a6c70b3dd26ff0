"""The page of a design: ``report.html`` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netsmith.report import front, networks, page, plots, prediction, routing, story, text
from netsmith.report.drawing import draw
from netsmith.report.folder import Folder, number, read_folder
from netsmith.report.layers import layers, precisions
from netsmith.report.tree import tree

_MOST_SKIPPED = 200

# What the validation accuracy of a candidate is of, by the design's judge.
JUDGED = {
    "supernet": "with the supernet's shared weights",
    "file": "of the measured files themselves",
    "transfer": "of files with the supernet's shared weights",
    "training": "after a short training",
    "reward": "along their own paths, after a short fine-tuning",
    "tuning": "after a short training that began with what the base had learned",
    "inherited": "with the weights that are left of the base, before any training",
}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` in a design's folder, from what stands there, and return its path.

    The same folder gives the same bytes. An unfinished or failed design gives a page of what there
    is. Raises :class:`netsmith.errors.FolderError` where the folder is damaged or cannot be written.
    """
    found, path = read_folder(folder), folder / "report.html"
    page.write(path, page.compose("design.html", _plots(found), **_context(found)))
    return path


def _plots(folder: Folder) -> dict[str, plots.Spec | None]:
    limit, known_by = networks.latency_limit(folder), story.latency_is(folder)
    routed = routing.read(folder)
    moved = {
        "paths": plots.paths(folder),
        "expected": plots.expected(folder, limit),
        "multiplier": plots.search_curve(folder, "multiplier", "weight of latency"),
        "entropy": plots.search_curve(folder, "entropy", "entropy (1 is even)"),
        "arch-loss": plots.search_curve(folder, "arch_loss", "loss of the paths"),
        "open": plots.search_curve(folder, "open_paths", "open paths"),
    }
    return {
        **({"evaluations": plots.evaluations(folder)} if _one_shot(folder) else moved),
        **(routing.plots_of(folder, routed) if routed is not None else {}),
        "trade-off": plots.trade_off(networks.trained(folder), limit, known_by),
        **_front(folder, limit, known_by),
        "loss": plots.search_curve(folder, "loss", "loss of the weights"),
        "train-accuracy": plots.training(folder, "accuracy", "validation accuracy (%)", 100),
        "train-loss": plots.training(folder, "loss", "training loss"),
        "heldout": prediction.heldout(_heldout(folder)),
    }


def _front(folder: Folder, limit: float | None, known_by: str) -> dict[str, plots.Spec | None]:
    """The plots of a front where there is one, else of what a search for one network had to choose from."""
    shown = front.plot(folder, known_by)
    if shown is None and routing.read(folder) is not None:
        return {}  # its bounds are shown among its paths
    if shown is None:
        return {"choices": plots.choices(networks.candidates(folder), limit, known_by)}
    return {"front": shown, "progress": front.progress(folder)}


def _context(folder: Folder) -> dict[str, Any]:
    data = folder.last("data")
    skipped = [s for s in data.get("skipped") or [] if isinstance(s, dict)]
    started = folder.all("started")
    begun = number(started[0]["time"]) if started and "time" in started[0] else None
    return {
        "version": folder.result.get("netsmith"),
        "name": folder.name,
        "result": folder.result,
        "spread": folder.result.get("latency_ms_spread", {}),
        "interval": _interval(folder),
        "latency_is": story.latency_is(folder),
        "verdict": story.verdict(folder),
        "limits": story.limits(folder),
        "gauge": story.gauge(folder),
        "warnings": story.warnings(folder),
        "device": story.device(folder),
        "mistakes": story.mistakes(folder),
        "recall": story.recall(folder),
        "labels": story.label_names(folder),
        "trained": networks.trained(folder),
        "candidates": networks.candidates(folder),
        "matrix": networks.matrix(folder),
        "drawing": draw(folder),
        "layers": layers(folder),
        "precisions": precisions(folder),
        "tree": tree(folder),
        "objectives": [name.rpartition("_")[0] or name for name in folder.result.get("objectives", [])],
        "front_drawings": front.drawings(folder),
        "chosen": next((point.name for point in front.points(folder) if point.chosen), ""),
        "archs": _archs(folder),
        "routing": routing.read(folder),
        "before": folder.last("before"),
        "reach": folder.all("reach"),
        "profile": folder.last("profile"),
        "heldout": _heldout(folder),
        "search": folder.epochs("search_epoch"),
        "one_shot": _one_shot(folder),
        "judged": JUDGED.get(str(folder.result.get("judge")), JUDGED["supernet"]),
        "training": _last_epochs(folder),
        "data": data,
        "skipped": skipped[:_MOST_SKIPPED],
        "skipped_more": max(0, len(skipped) - _MOST_SKIPPED),
        "command": str(folder.result.get("command") or folder.last("started").get("command") or ""),
        "settings": folder.settings,
        "begun": text.moment(begun) if begun is not None else "",
    }


def _one_shot(folder: Folder) -> bool:
    """Whether the supernet was trained alone, and searched afterwards."""
    return str(folder.result.get("strategy", "proxyless")) != "proxyless"


def _archs(folder: Folder) -> float | None:
    """How many archs the space has; the journal writes it as text, since it may be very large."""
    told = folder.last("space").get("count")
    return number(int(told) if isinstance(told, str) and told.isdecimal() and len(told) < 200 else told)


def _heldout(folder: Folder) -> dict[str, Any]:
    """The held-out check of the latency table; empty where no network was held out."""
    found = folder.last("profile").get("heldout") or {}
    return found if found.get("points") else {}


def _interval(folder: Folder) -> list[float]:
    ends = folder.result.get("latency_ms_spread", {}).get("interval")
    known = [number(end) for end in ends] if isinstance(ends, list) else []
    return [end for end in known if end is not None] if len(known) == 2 else []


def _last_epochs(folder: Folder) -> list[dict[str, Any]]:
    """The last epoch of each network that was trained."""
    return list({str(event.get("name")): event for event in folder.epochs("train_epoch")}.values())
