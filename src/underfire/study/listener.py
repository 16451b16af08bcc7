"""The listener of a study: it hears all that the listener of an audit does, and two things more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from underfire.core import Listener, Quiet
from underfire.study.crossing import MissingJudgements
from underfire.study.planned import PlannedAudit


class StudyListener(Listener, Protocol):
    """Hears how a study goes on."""

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Hear what is missing at most, before anything is run: of each audit, and of the judgements across them."""

    def step(self, n: int, of: int, name: str) -> None:
        """Hear that the n-th of all steps starts: an audit, by its folder, or 'transfer'."""


class QuietStudy(Quiet):
    """Tells nobody."""

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Ignored."""

    def step(self, n: int, of: int, name: str) -> None:
        """Ignored."""
