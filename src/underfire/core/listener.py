"""The listener: hears how long work goes on. The terminal's progress bars are one; who gives none tells nobody."""

from __future__ import annotations

from typing import Protocol

from underfire.core.work import Outcome


class Listener(Protocol):
    """Hears how an audit, a calibration or a check goes on; a study's and a training's hear more."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Hear that a stage of ``total`` rows or photos starts, ``done`` of them finished in an earlier run."""

    def advance(self, outcome: Outcome) -> None:
        """Hear that a unit is finished and stored, or was given up."""

    def done(self, n: int) -> None:
        """Hear that ``n`` photos of the stage are done, where there are no units."""

    def note(self, text: str) -> None:
        """Hear something that the user should know."""


class Quiet:
    """Tells nobody."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Ignore it."""

    def advance(self, outcome: Outcome) -> None:
        """Ignore it."""

    def done(self, n: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
