"""The listener of long work: the terminal's progress bars are one."""

from __future__ import annotations

from typing import Protocol

from underfire.core.work import Outcome


class Listener(Protocol):
    """A listener that hears how an audit, a calibration or a check goes on; a study and a training tell more."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Hear that a stage of ``total`` rows or photos starts; ``done`` of them are from an earlier run."""

    def advance(self, outcome: Outcome) -> None:
        """Hear that a unit is finished and stored, or has failed."""

    def done(self, n: int) -> None:
        """Hear that ``n`` photos of the stage are done, where there are no units."""

    def note(self, text: str) -> None:
        """Hear a sentence that the user should know."""


class Quiet:
    """A listener that does nothing."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Do nothing."""

    def advance(self, outcome: Outcome) -> None:
        """Do nothing."""

    def done(self, n: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
