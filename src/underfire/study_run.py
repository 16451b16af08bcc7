"""The driver of a study: its audits one after the other, then the judgements across them. Resumed like any audit.

OUT/study.yaml          what was asked for, and the audits that it means
OUT/CLASSIFIER/...      one ordinary audit a folder: main-24, bends-8, random-8, eps1-12, ...
OUT/study.html          the page (study_page.py)
"""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import yaml

from underfire import audit, system, transfer
from underfire import plan as planning
from underfire.core import Outcome
from underfire.place import write_whole
from underfire.plan import Plan
from underfire.record import Record
from underfire.store import Store
from underfire.study import FILE, Agenda, Part, read


class Watcher(Protocol):
    """Who is told how a study goes on."""

    def part(self, n: int, of: int, name: str) -> None:
        """The n-th part starts."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """As in an audit."""

    def advance(self, outcome: Outcome) -> None:
        """As in an audit."""

    def note(self, text: str) -> None:
        """As in an audit."""


@dataclass(frozen=True)
class Estimate:
    """An audit of a study, planned, and what is missing of it.

    Args:
        part: the audit.
        plan: filled in.
        passes: F that are missing, at most.
        seconds_a_pass: what one takes, with all workers.
    """

    part: Part
    plan: Plan
    passes: float
    seconds_a_pass: float


def estimate(agenda: Agenda, out: Path) -> list[Estimate]:
    """Every audit planned; passes and seconds at most of what is missing."""
    speed: dict[int, float] = {}
    found = []
    for part in agenda.parts:
        folder = out / part.folder
        plan, classifier = planning.make_plan(part.settings, audit.stored_plan(folder))
        if part.subject not in speed:
            size = plan.settings.batch_size or 1
            speed[part.subject] = system.seconds_a_pass(classifier, size, plan.job.device, plan.job.threads)
        done = Store(folder).done("records")
        missing = sum(len(unit.photos) for unit in plan.units({}) if unit.name not in done)
        passes = (plan.image_passes + plan.scale_passes) * missing
        found.append(Estimate(part, plan, passes, speed[part.subject] / plan.settings.workers))
    return found


def estimate_transfer(agenda: Agenda, planned: Sequence[Estimate]) -> tuple[float, float]:
    """Passes and seconds of the judgements across audits, all of them."""
    mains = [one for one in planned if one.part.experiment == "main"]
    passes = seconds = 0.0
    for made, judge in itertools.product(mains, mains):
        photos = len(_shared(mains, made.part.subject))
        for name in judge.part.settings.interpreter:
            if made.part.subject == judge.part.subject:
                pictures = 1 + sum(other != name for other in made.part.settings.interpreter)
            elif same_task(made.plan, judge.plan) and name in made.part.settings.interpreter:
                pictures = 3  # clean, PGD's and ADV²'s
            else:
                continue
            spent = photos * pictures * (1 + agenda.map_passes[judge.part.subject, name])
            passes += spent
            seconds += spent * judge.seconds_a_pass
    return passes, seconds


def run(agenda: Agenda, planned: Sequence[Estimate], out: Path, watcher: Watcher) -> None:
    """Run what is missing of a study, and nothing twice."""
    log = _Log(agenda, planned, out)
    log.write()
    for n, one in enumerate(planned, 1):
        watcher.part(n, len(planned) + 1, one.part.folder)
        audit.run(one.part.settings, out / one.part.folder, watcher)
        log.write()
    watcher.part(len(planned) + 1, len(planned) + 1, "transfer")
    mains = [one for one in planned if one.part.experiment == "main"]
    for made, judge in itertools.product(mains, mains):
        _transfer(made, judge, _shared(mains, made.part.subject), out, watcher)
    log.write()


def _shared(mains: Sequence[Estimate], subject: int) -> frozenset[str]:
    """Digests of the photos that every main audit of a classifier has: matrices compare the same photos."""
    of = [{photo.sha256 for photo in one.plan.photos} for one in mains if one.part.subject == subject]
    return frozenset(set.intersection(*of))


def _transfer(made: Estimate, judge: Estimate, photos: frozenset[str], out: Path, watcher: Watcher) -> None:
    """What one main audit made, judged by another's interpreters, or by its classifier."""
    scale = audit.measured_scale(Store(out / judge.part.folder))
    for name in judge.part.settings.interpreter:

        def between_interpreters(r: Record, name: str = name) -> bool:
            return r.image_sha256 in photos and r.against not in (None, name)

        def between_classifiers(r: Record, name: str = name) -> bool:
            return r.image_sha256 in photos and r.interpreter == name

        if made.part.subject == judge.part.subject:
            wanted = between_interpreters
        elif same_task(made.plan, judge.plan):
            wanted = between_classifiers
        else:
            continue
        transfer.run(out / made.part.folder, judge.plan, scale, [name], wanted, watcher)


def same_task(one: Plan, other: Plan) -> bool:
    """Whether two classifiers tell the same classes apart: only then does a target class mean the same to both."""
    return one.classes_digest == other.classes_digest


class _Log:
    """Keeps OUT/study.yaml up to date: all that the page must know beside the records."""

    def __init__(self, agenda: Agenda, planned: Sequence[Estimate], out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.agenda, self.planned, self.out, self.start = agenda, planned, out, time.monotonic()
        self.earlier = float(read(out).resolved.get("seconds", 0.0)) if (out / FILE).is_file() else 0.0

    def write(self) -> None:
        """Whole or not at all."""
        content = self.agenda.study.model_dump(mode="json", exclude_none=True, exclude={"resolved"})
        text = yaml.safe_dump(content | {"resolved": self._resolved()}, sort_keys=False, allow_unicode=True)
        write_whole(self.out / FILE, text.encode())

    def _resolved(self) -> dict[str, Any]:
        return {
            "parts": [
                {
                    "experiment": one.part.experiment,
                    "folder": one.part.folder,
                    "subject": one.part.subject,
                    "interpreter": list(one.part.settings.interpreter),
                    "photos": len(one.plan.photos),
                    "eps": one.part.settings.eps,
                }
                for one in self.planned
            ],
            "left_out": [list(one) for one in self.agenda.left_out],
            "trained_on": [subject.data for subject in self.agenda.study.classifiers],
            "hardware": f"{os.cpu_count()} × {_processor()}, {platform.system()}",
            "version": _version(),
            "seconds": round(self.earlier + time.monotonic() - self.start, 1),
        }


def _version() -> str:
    """The installed version, and the commit where the source tree is a git checkout of its own."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here), "rev-parse", "--show-toplevel", "--short", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return version("underfire")
    top, _, commit = done.stdout.strip().partition("\n")
    if done.returncode or Path(top) / "src" / "underfire" != here:
        return version("underfire")
    return f"{version('underfire')}, commit {commit}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.machine())
