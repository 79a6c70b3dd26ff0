"""``netsmith devices``: what can be designed for here."""

from __future__ import annotations

from typing import Annotated

import typer

from netsmith.cli.output import print_json, print_table


def devices(
    json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List the devices, their runtimes' versions, and what is missing."""
    from netsmith.devices.device import known_devices, processor

    known = known_devices()
    if json:
        print_json(
            [
                {
                    "name": d.name,
                    "package": d.package,
                    "version": d.version,
                    "extra": d.extra,
                    "missing": d.missing,
                }
                for d in known
            ]
        )
        return
    rows = [[d.name, d.summary, f"missing: {d.missing}" if d.missing else d.version or ""] for d in known]
    print_table(("device", "what it is", "version"), rows, title=processor(), words=2)
