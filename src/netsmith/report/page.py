"""Writes ``report.html``: one page that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from netsmith.errors import FolderError
from netsmith.report import networks, plots, story, text
from netsmith.report.drawing import draw
from netsmith.report.folder import Folder, number, read_folder

_HERE = Path(__file__).parent
_MOST_SKIPPED = 200


def write_report(folder: Path) -> Path:
    """Write ``report.html`` in a design's folder, from what stands there, and return its path.

    The same folder gives the same bytes. An unfinished or failed design gives a page of what there
    is. Raises :class:`FolderError` where the folder is damaged or cannot be written.
    """
    page = render(read_folder(folder))
    path, temporary = folder / "report.html", folder / f".report-{os.getpid()}.html"
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FolderError(
            f"cannot write {path}: {error.strerror}; free some space or make the folder writable, then "
            "run 'netsmith report' on it"
        ) from error
    return path


def render(folder: Folder) -> str:
    """Return the page of a folder."""
    from plotly.offline import get_plotlyjs  # 5 MB: only a page that is written pays for it

    library = _lines(get_plotlyjs())
    script = _lines((_HERE / "report.js").read_text(encoding="utf-8"))
    drawn = {name: spec for name, spec in _plots(folder).items() if spec is not None}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = text.figure
    return environment.get_template("report.html").render(
        **_context(folder),
        plots=drawn,
        policy=_policy(library, script),
        style=Markup(_lines((_HERE / "report.css").read_text(encoding="utf-8"))),
        library=Markup(library),
        script=Markup(script),
        specs=_embed(drawn),
    )


def _plots(folder: Folder) -> dict[str, plots.Spec | None]:
    limit, known_by = networks.latency_limit(folder), story.latency_is(folder)
    return {
        "trade-off": plots.trade_off(networks.trained(folder), limit, known_by),
        "choices": plots.choices(networks.candidates(folder), limit, known_by),
        "paths": plots.paths(folder),
        "expected": plots.expected(folder, limit),
        "multiplier": plots.search_curve(folder, "multiplier", "weight of latency"),
        "entropy": plots.search_curve(folder, "entropy", "entropy (1 is even)"),
        "loss": plots.search_curve(folder, "loss", "loss of the weights"),
        "arch-loss": plots.search_curve(folder, "arch_loss", "loss of the paths"),
        "open": plots.search_curve(folder, "open_paths", "open paths"),
        "train-accuracy": plots.training(folder, "accuracy", "validation accuracy (%)", 100),
        "train-loss": plots.training(folder, "loss", "training loss"),
        "heldout": plots.heldout(folder),
    }


def _context(folder: Folder) -> dict[str, Any]:
    data = folder.last("data")
    skipped = [s for s in data.get("skipped") or [] if isinstance(s, dict)]
    started = folder.all("started")
    begun = number(started[0]["time"]) if started and "time" in started[0] else None
    return {
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
        "archs": _archs(folder),
        "reach": folder.all("reach"),
        "profile": folder.last("profile"),
        "heldout": _heldout(folder),
        "search": folder.epochs("search_epoch"),
        "training": _last_epochs(folder),
        "data": data,
        "skipped": skipped[:_MOST_SKIPPED],
        "skipped_more": max(0, len(skipped) - _MOST_SKIPPED),
        "command": str(folder.result.get("command") or folder.last("started").get("command") or ""),
        "settings": folder.settings,
        "begun": text.moment(begun) if begun is not None else "",
    }


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


def _lines(content: str) -> str:
    """Ends of lines as a browser sees them, so that the policy's digests are of the same text."""
    return content.replace("\r\n", "\n").replace("\r", "\n")


def _policy(*scripts: str) -> str:
    """A policy under which no script but these runs and nothing is ever fetched."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _embed(values: object) -> Markup:
    """JSON that no text in it can end: what HTML could read as markup is written as an escape."""
    content = json.dumps(values, ensure_ascii=True, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for character in "<>&":
        content = content.replace(character, f"\\u{ord(character):04x}")
    return Markup(content)
