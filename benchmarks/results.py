"""Refresh the tables of docs/results.md from the figures that the benchmarks wrote.

Between ``<!-- figures: NAME -->`` and ``<!-- end -->`` stands the table of ``results/NAME.json``, with
the command, the commit and the machine that made it; the prose around it is written by hand.

    python benchmarks/results.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
MARKED = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(content: dict[str, Any]) -> str:
    machine = content["machine"]
    lines = [
        f"`{content['command']}`, commit `{content['commit']}`, {machine['processor']}, "
        f"{machine['cores']} cores, load {machine['load']} at the end",
        "",
        "| figure | value | bar | met |",
        "|---|---|---|---|",
    ]
    for figure in content["figures"]:
        met = {None: "", True: "yes", False: "**no**"}[figure["met"]]
        value = f"{figure['value']:.4g} {figure['unit']}".strip()
        lines.append(f"| {figure['name']} | {value} | {figure['bar'] or ''} | {met} |")
    return "\n".join(lines) + "\n"


def refreshed(page: str) -> str:
    def fill(match: re.Match[str]) -> str:
        path = HERE / "results" / f"{match[2]}.json"
        text = table(json.loads(path.read_text())) if path.exists() else "Not measured yet.\n"
        return f"{match[1]}{text}{match[3]}"

    return MARKED.sub(fill, page)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
    print(f"refreshed {PAGE.name}")
