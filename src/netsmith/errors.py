"""Every error that Netsmith raises on purpose.

A message says what was asked, what was got, what is allowed and what to do.
Catch :class:`NetsmithError` to catch them all; the command line prints the
message alone and leaves with :attr:`NetsmithError.exit_status`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetsmithError(Exception):
    """Base of every error that is the caller's to mend."""

    exit_status = 2


class SettingsError(NetsmithError):
    """An option, configuration key or value that Netsmith does not accept."""


class SpaceError(NetsmithError):
    """A space that cannot be built as asked, or does not fit the input size."""


class ArchError(NetsmithError):
    """An arch that is not a point of the space it is used with."""


class DataError(NetsmithError):
    """Images or labels that cannot be read or cannot be learned from."""


class DeviceError(NetsmithError):
    """A device that is unknown, unusable here, or failed while running."""


class MissingExtraError(NetsmithError):
    """An optional package that is not installed; names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed; "
            f"install it with: pip install 'netsmith[{extra}]'"
        )


class BudgetError(NetsmithError):
    """A budget that no arch of the space can keep on the device."""


class TableError(NetsmithError):
    """A table of latencies, or a published one, that is damaged, of another version, or of another space."""


class ExportError(NetsmithError):
    """A module that cannot be exported, or whose export does not equal it."""


class CompressionError(NetsmithError):
    """A network that cannot be compressed as asked, or not at all."""


class TransformError(NetsmithError):
    """A move that a network's layers do not allow."""


class TrainingError(NetsmithError):
    """Training that cannot go on, such as a loss that stays not-a-number."""


class FolderError(NetsmithError):
    """A design folder that is locked, damaged, not writable, or of another design."""


class StoreError(NetsmithError):
    """A store of trials that cannot be opened, read or written, is damaged, or is of another design."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
