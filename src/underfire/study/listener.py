"""The listener of a study: it hears what will be done, and gives each step of it a listener of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

from underfire.core import Listener, Quiet
from underfire.study.crossing import MissingJudgements
from underfire.study.planned import PlannedAudit


class StudyListener(Protocol):
    """Hears how a study goes on. It is never called twice at once."""

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Hear what is missing at most, before anything is run: of each audit, and of the judgements across them."""

    def note(self, text: str) -> None:
        """Hear a sentence that the user should know."""

    def step(self, n: int, of: int, name: str) -> contextlib.AbstractContextManager[Listener]:
        """Give the listener of a step, which starts as it is entered and is done as it is left.

        Args:
            n: number of the step, from 1 on. Others may still run that started before.
            of: number of all steps at most.
            name: the folder of an audit, or what is judged across audits.
        """


class QuietStudy(Quiet):
    """Tells nobody."""

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        """Ignored."""

    def step(self, n: int, of: int, name: str) -> contextlib.AbstractContextManager[Listener]:
        """Hear all steps itself."""
        return contextlib.nullcontext(self)
