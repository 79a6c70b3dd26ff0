"""The command line: one file a command; each parses, calls and prints."""

from __future__ import annotations

import sys


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
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it was")
        sys.exit(130)
