"""The command line: one file a command; each parses, calls and prints."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the ``netsmith`` command."""
    from netsmith.cli.application import application
    from netsmith.cli.output import fail
    from netsmith.errors import NetsmithError

    try:
        application()
    except NetsmithError as error:
        fail(str(error))
        sys.exit(error.exit_status)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # Typer's own exit on Ctrl-C, which says nothing
            fail("interrupted; the same command goes on where it was")
        raise
