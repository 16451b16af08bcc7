"""Crossings: what one audit made, judged by another interpreter or classifier; and what is missing of them at most."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from underfire.audit import transfer
from underfire.core import Executor, JudgeUnit, Listener, Record
from underfire.plan.units import Plan
from underfire.store import Store
from underfire.study.agenda import Agenda
from underfire.study.planned import PlannedAudit


@dataclass(frozen=True)
class Crossing:
    """What one main audit made, judged by an interpreter of another one, or by its classifier.

    Args:
        made: the audit that has the pictures.
        judge: the audit whose classifier and settings judge.
        name: the judging interpreter.
        photos: digests of the photos that are judged.
        out: the study's folder.
    """

    made: PlannedAudit
    judge: PlannedAudit
    name: str
    photos: frozenset[str]
    out: Path

    def __str__(self) -> str:
        return f"{self.made.audit.folder} judged by {self.name} on {self.judge.plan.settings.classifier}"

    @property
    def same(self) -> bool:
        """Whether the same classifier judges."""
        return self.made.audit.subject == self.judge.audit.subject

    @property
    def folder(self) -> Path:
        """The folder of the audit that has the pictures."""
        return self.out / self.made.audit.folder

    def wanted(self, r: Record) -> bool:
        """Say whether a record's pictures are judged again."""
        fits = r.against not in (None, self.name) if self.same else r.interpreter == self.name
        return r.image_sha256 in self.photos and fits

    def units(self) -> list[JudgeUnit]:
        """List all units; both audits must be done."""
        return list(transfer.units(self.folder, self.judge.plan, self.name, self.wanted))

    def missing(self) -> list[JudgeUnit]:
        """List the units that are not done; both audits must be."""
        done = Store(self.folder).done(transfer.STAGE)
        return [unit for unit in self.units() if unit.name not in done]

    def run(self, listener: Listener, executor: Executor | None = None) -> None:
        """Judge what is missing; by default with the judging plan's own workers."""
        transfer.run(self.folder, self.judge.plan, [self.name], self.wanted, listener, executor)


def crossings(planned: Sequence[PlannedAudit], out: Path) -> Iterator[Crossing]:
    """Pair the main audits of one classifier, and those of two classifiers that tell the same classes apart."""
    mains = [one for one in planned if one.audit.experiment == "main"]
    for made, judge in itertools.product(mains, mains):
        photos = _shared(mains, made.audit.subject)
        same = made.audit.subject == judge.audit.subject
        for name in judge.audit.settings.interpreter:
            if same or (same_classes(made.plan, judge.plan) and name in made.audit.settings.interpreter):
                yield Crossing(made, judge, name, photos, out)


def _shared(mains: Sequence[PlannedAudit], subject: int) -> frozenset[str]:
    """Digests of the photos that every main audit of a classifier has: matrices compare the same photos."""
    of = [{photo.sha256 for photo in one.plan.photos} for one in mains if one.audit.subject == subject]
    return frozenset(set.intersection(*of))


def same_classes(one: Plan, other: Plan) -> bool:
    """Say whether two classifiers tell the same classes apart: only then does a target class mean the same to both."""
    return one.classes_digest == other.classes_digest


@dataclass(frozen=True)
class MissingJudgements:
    """Judgements across audits that are missing: F and seconds at most."""

    passes: float
    seconds: float


def missing_judgements(agenda: Agenda, planned: Sequence[PlannedAudit], out: Path) -> MissingJudgements:
    """Count what is missing of all crossings."""
    passes = seconds = 0.0
    for one in crossings(planned, out):
        photos = len(one.photos)
        if not (one.made.passes or one.judge.passes):  # only then is it known which units there are
            photos = sum(len(unit.photos) for unit in one.missing())
        others = sum(other != one.name for other in one.made.audit.settings.interpreter) if one.same else 2
        pictures = 1 + others if others else 0  # with the clean one; another classifier sees PGD's and ADV²'s
        spent = photos * pictures * (1 + agenda.subjects[one.judge.audit.subject].map_passes[one.name])
        passes += spent
        seconds += spent * one.judge.seconds_a_pass
    return MissingJudgements(passes, seconds)
