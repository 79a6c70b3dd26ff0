"""What every page is: one file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from netsmith.errors import FolderError
from netsmith.report import text
from netsmith.report.plots import Spec

_HERE = Path(__file__).parent


def compose(template: str, plots: Mapping[str, Spec | None], **context: Any) -> str:
    """Return the page of a template of this folder, with those of ``plots`` that there are."""
    from plotly.offline import get_plotlyjs  # 5 MB: only a page that is written pays for it

    library = _lines(get_plotlyjs())
    script = _lines((_HERE / "page.js").read_text(encoding="utf-8"))
    drawn = {name: spec for name, spec in plots.items() if spec is not None}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = text.figure
    return environment.get_template(template).render(
        **context,
        plots=drawn,
        policy=_policy(library, script),
        style=Markup(_lines((_HERE / "page.css").read_text(encoding="utf-8"))),
        library=Markup(library),
        script=Markup(script),
        specs=_embed(drawn),
    )


def write(path: Path, content: str) -> None:
    """Write a page whole or not at all. Raises :class:`FolderError` where it cannot be written."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.html")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FolderError(
            f"cannot write {path}: {error.strerror}; free some space or make the folder writable, then "
            "write it again"
        ) from error


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
