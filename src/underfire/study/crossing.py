"""Crossings: what one audit made, judged by another interpreter or classifier; and what is left to do at most."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from underfire.audit import desk, transfer
from underfire.core import JudgeUnit, Record
from underfire.plan.units import Plan
from underfire.store import Store
from underfire.study.agenda import Agenda, Part


@dataclass(frozen=True)
class Crossing:
    """What one main audit made, judged by an interpreter of another, or by its classifier.

    Args:
        made: the audit that has the pictures.
        judge: the audit whose classifier and settings judge.
        name: the judging interpreter.
        photos: digests of those that are judged.
        out: the study's folder.
    """

    made: Estimate
    judge: Estimate
    name: str
    photos: frozenset[str]
    out: Path

    @property
    def same(self) -> bool:
        """Whether it is the same classifier that judges."""
        return self.made.part.subject == self.judge.part.subject

    @property
    def folder(self) -> Path:
        """Of the audit that has the pictures."""
        return self.out / self.made.part.folder

    def wanted(self, r: Record) -> bool:
        """Whether a record's pictures are judged again."""
        fits = r.against not in (None, self.name) if self.same else r.interpreter == self.name
        return r.image_sha256 in self.photos and fits

    def missing(self) -> list[JudgeUnit]:
        """Units that are not done, once both audits are."""
        done = Store(self.folder).done(transfer.STAGE)
        units = transfer.units(self.folder, self.judge.plan, self.name, self.wanted)
        return [unit for unit in units if unit.name not in done]

    def run(self, watcher: desk.Listener) -> None:
        """Judge what is missing."""
        transfer.run(self.folder, self.judge.plan, [self.name], self.wanted, watcher)


def crossings(planned: Sequence[Estimate], out: Path) -> Iterator[Crossing]:
    """Every pair of main audits of one classifier, and of two that tell the same classes apart."""
    mains = [one for one in planned if one.part.experiment == "main"]
    for made, judge in itertools.product(mains, mains):
        photos = _shared(mains, made.part.subject)
        same = made.part.subject == judge.part.subject
        for name in judge.part.settings.interpreter:
            if same or (same_task(made.plan, judge.plan) and name in made.part.settings.interpreter):
                yield Crossing(made, judge, name, photos, out)


def _shared(mains: Sequence[Estimate], subject: int) -> frozenset[str]:
    """Digests of the photos that every main audit of a classifier has: matrices compare the same photos."""
    of = [{photo.sha256 for photo in one.plan.photos} for one in mains if one.part.subject == subject]
    return frozenset(set.intersection(*of))


def same_task(one: Plan, other: Plan) -> bool:
    """Whether two classifiers tell the same classes apart: only then does a target class mean the same to both."""
    return one.classes_digest == other.classes_digest


def estimate_transfer(agenda: Agenda, planned: Sequence[Estimate], out: Path) -> tuple[float, float]:
    """Passes and seconds at most of the judgements across audits that are missing."""
    passes = seconds = 0.0
    for one in crossings(planned, out):
        photos = len(one.photos)
        if not (one.made.passes or one.judge.passes):  # only then is it known which units there are
            photos = sum(len(unit.photos) for unit in one.missing())
        others = sum(other != one.name for other in one.made.part.settings.interpreter) if one.same else 2
        pictures = 1 + others if others else 0  # with the clean one; another classifier sees PGD's and ADV²'s
        spent = photos * pictures * (1 + agenda.map_passes[one.judge.part.subject, one.name])
        passes += spent
        seconds += spent * one.judge.seconds_a_pass
    return passes, seconds


@dataclass(frozen=True)
class Estimate:
    """An audit of a study, planned, and what is missing of it.

    Args:
        part: the audit.
        plan: filled in.
        passes: F that are missing, at most.
        seconds_a_pass: what one takes, with all workers that have a unit to work on.
    """

    part: Part
    plan: Plan
    passes: float
    seconds_a_pass: float
