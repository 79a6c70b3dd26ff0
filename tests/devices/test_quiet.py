"""What C and Python write goes where it is sent, and where it went before afterwards."""

from __future__ import annotations

import subprocess
import sys


def said(body: str) -> tuple[str, str]:
    """What a process that runs ``body`` writes to its standard output and error."""
    code = f"import ctypes, os, sys\nfrom netsmith.devices.quiet import *\nC = ctypes.CDLL(None)\n{body}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_output_goes_to_error_meanwhile() -> None:
    body = (
        "print('a')\nwith redirected(STDOUT, STDERR):\n    C.puts(b'b'); print('c', flush=True)\nprint('d')"
    )
    out, error = said(body)
    assert out == "a\nd\n"
    assert sorted(error.split()) == ["b", "c"]


def test_errors_are_dropped_meanwhile_and_not_afterwards() -> None:
    body = (
        "sys.stderr.write('a')\n"
        "try:\n    with without_stderr():\n        C.perror(b'b'); os.write(2, b'c'); raise KeyError\n"
        "except KeyError:\n    sys.stderr.write('d')"
    )
    assert said(body) == ("", "ad")
