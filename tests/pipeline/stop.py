"""A user who interrupts."""

from __future__ import annotations

from netsmith.pipeline.progress import Silent


class Stop(Silent):
    """A user who presses Ctrl-C after so many updates."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, done: float, total: float, note: str = "") -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
