"""What a design tells those who wait for it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what is being done; the command line shows it, a library user may."""

    def stage(self, title: str) -> None:
        """A new part of the work has begun."""

    def update(self, done: float, total: float, note: str = "") -> None:
        """``done`` of ``total`` of the part is finished; ``note`` is its latest figure."""

    def say(self, text: str) -> None:
        """A line worth reading now, such as the range that a space reaches."""

    def warn(self, text: str) -> None:
        """Something that the user should know and may mend."""


class Silent:
    """Shows nothing."""

    def stage(self, title: str) -> None:
        """Ignore it."""

    def update(self, done: float, total: float, note: str = "") -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def warn(self, text: str) -> None:
        """Ignore it."""
