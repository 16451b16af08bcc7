"""The log of a study: OUT/study.yaml has what was asked for, and all that the page must know beside the records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.files import write_whole
from underfire.study.agenda import Agenda
from underfire.study.planned import PlannedAudit
from underfire.study.results import FILE


class StudyLog:
    """Keeps OUT/study.yaml up to date.

    Args:
        agenda: the study.
        planned: its audits.
        out: its folder, which is made.
    """

    def __init__(self, agenda: Agenda, planned: Sequence[PlannedAudit], out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.agenda, self.planned, self.out = agenda, planned, out
        self.stopped: dict[str, str] = {}
        """Steps that could not be run to their end, and why."""
        self._write()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note that a step fails; the others go on."""
        try:
            yield
        except UnderfireError as e:
            self.stopped[name] = str(e)
        finally:
            self._write()

    def _write(self) -> None:
        study = self.agenda.study.as_plan()
        subjects = [_said(subject) for subject in study["classifiers"]]
        content = _said(study) | {"classifiers": subjects, "resolved": self._resolved()}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_whole(self.out / FILE, text.encode())

    def _resolved(self) -> dict[str, Any]:
        return {
            "parts": [_audit(one) for one in self.planned],
            "left_out": [list(one) for one in self.agenda.left_out],
            "failed": [list(one) for one in self.stopped.items()],
            "trained_on": [subject.trained_on for subject in self.agenda.subjects],
        }


def _said(words: dict[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in words.items() if value is not None}


def _audit(one: PlannedAudit) -> dict[str, Any]:
    return {
        "experiment": one.audit.experiment,
        "folder": one.audit.folder,
        "subject": one.audit.subject,
        "interpreter": list(one.audit.settings.interpreter),
        "photos": len(one.plan.photos),
        "eps": one.audit.settings.eps,
    }
