"""The agenda: the audits that a study means, in order, and what was left out. Nothing is run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from underfire import core
from underfire.audit.sanity import FOLDER as SANITY
from underfire.audit.sanity import variants
from underfire.core import LEVELS, UnderfireError
from underfire.core.place import slug
from underfire.metrics import yardstick_file
from underfire.plan.device import choose_device
from underfire.plan.settings import Settings
from underfire.study.counts import Count, Counts
from underfire.study.families import EXPLANATIONS
from underfire.study.plan import Study
from underfire.study.results import INTERPRETERS, TRAINED
from underfire.study.subjects import ResolvedSubject, resolve

BUDGETS = (1, 2, 4)
"""ε of the audits that are compared with the main one."""
BUDGET_INTERPRETERS = ("cam", "rts")
"""MASK costs too much for four budgets, and GRAD's untouched scale tells little (docs/grad.md)."""
SOUND_TARGET = "random"
"""Classes that the attack is checked with."""


@dataclass(frozen=True)
class StudyAudit:
    """One audit of a study.

    Args:
        experiment: main, bends, random, budget, control, rerun, noise, trained or sanity.
        folder: below the study's.
        settings: of this audit.
        subject: index of its classifier among the agenda's subjects.
    """

    experiment: str
    folder: str
    settings: Settings
    subject: int


@dataclass(frozen=True)
class Agenda:
    """A study filled in.

    Args:
        study: what was asked for, with absolute paths.
        subjects: its classifiers.
        audits: in the order in which one worker runs them.
    """

    study: Study
    subjects: tuple[ResolvedSubject, ...]
    audits: tuple[StudyAudit, ...]

    @property
    def left_out(self) -> list[tuple[str, str, str]]:
        """Classifier, interpreter that does not fit it, and why."""
        return [(subject.name, name, why) for subject in self.subjects for name, why in subject.left_out.items()]


def make_agenda(study: Study) -> Agenda:
    """List the audits that a study means; every classifier is built once.

    Raises:
        UnderfireError: an interpreter that was named does not fit its classifier, and other mistakes of a plan.
    """
    study = study.model_copy(
        update={"classifiers": tuple(subject.with_absolute_paths() for subject in study.classifiers)}
    )
    names = [subject.settings.classifier for subject in study.classifiers]
    if len(set(names)) < len(names):
        raise UnderfireError(f"A study takes each classifier once, not {', '.join(names)}: run another study.")
    device = choose_device(study.device)
    named = zip(study.classifiers, folder_names(names), strict=True)
    usual = EXPLANATIONS if study.explanations else INTERPRETERS
    subjects = tuple(resolve(subject, folder, device, usual) for subject, folder in named)
    known = {"default", *usual, *itertools.chain(*(subject.interpreters for subject in subjects))}
    audits: list[StudyAudit] = []
    for i, subject in enumerate(subjects):
        counts = subject.asked.photos or study.photos
        _check_counts(counts, known)
        audits += _audits(study, subject, i, counts)
    return Agenda(study, subjects, tuple(audits))


def _check_counts(counts: Counts, known: set[str]) -> None:
    for experiment in Counts.model_fields:
        count = getattr(counts, experiment)
        for name in count if isinstance(count, dict) else ():
            if name not in known:
                raise core.unknown(f"interpreter in the study's counts of photos for '{experiment}'", name, known)


def _audits(study: Study, subject: ResolvedSubject, i: int, counts: Counts) -> Iterator[StudyAudit]:
    """The audits of one classifier."""

    def audit(experiment: str, name: str, interpreters: tuple[str, ...], photos: int, **more: Any) -> StudyAudit:
        settings = _settings(study, subject, interpreters, {"limit": photos, **more})
        return StudyAudit(experiment, f"{subject.folder}/{name}-{photos}", settings, i)

    names = subject.interpreters
    for n, group in _groups(names, counts.main):
        yield audit("main", "main", group, n)
    for n, group in _groups(names, counts.bends):
        yield audit("bends", "bends", group, n, attack=("stadv", "adv2-stadv"))
    for n, group in _groups(names, counts.random):
        yield audit("random", "random", group, n, target_map="class:random")
    for n, group in _groups([i for i in names if study.explanations or i in BUDGET_INTERPRETERS], counts.budget):
        for eps in BUDGETS:
            if eps < study.eps:
                yield audit("budget", f"eps{eps}", group, n, eps=eps, attack=("adv2",))
    for n, group in _groups(names, counts.noise):
        yield audit("noise", "noise", group, n, attack=("noise",), target="own")
    if study.explanations:  # its control is that noise
        return
    for n, group in _groups(names, counts.control):
        yield audit("control", "control", group, n, attack=("noise", "adv2-control"))
    for n, group in _groups(names, counts.rerun):
        yield audit("rerun", "rerun", group, n, batch_size=1)
    for n, group in _groups(names, counts.main):
        if "rts" in group and subject.has_trained:
            yield audit("trained", "trained", (TRAINED,), n, attack=("adv2",))
    yield from _checks(study, subject, i, counts.sanity)


def _checks(study: Study, subject: ResolvedSubject, i: int, photos: int) -> Iterator[StudyAudit]:
    """The audits that check the attack itself."""
    if photos:
        judge = min(subject.interpreters, key=lambda name: subject.map_passes[name])
        base = _settings(study, subject, (judge,), {"limit": photos})
        for name, settings in variants(base, judge, photos, SOUND_TARGET, _levels(study.eps)).items():
            yield StudyAudit("sanity", f"{subject.folder}/{SANITY}/{name}", settings, i)


def _levels(eps: int) -> list[int]:
    """The budgets at which the attack itself is checked: up to the study's, beyond it, and no bound."""
    smaller = (small for small in BUDGETS if small < eps)
    return sorted({*smaller, *(min(LEVELS, times * eps) for times in (1, 2, 4, 8)), LEVELS})


def _settings(study: Study, subject: ResolvedSubject, interpreters: tuple[str, ...], more: dict[str, Any]) -> Settings:
    """Settings of one audit: the classifier's own, what all audits share, and what this one adds."""
    own = subject.asked.settings
    shared = {
        k: getattr(study, k)
        for k in ("preset", "eps", "max_shift", "seed", "seeds", "target", "threads", "workers", "device")
    }
    audit = {"interpreter": interpreters, "attack": ("pgd", "adv2")} | more
    options = {k: v for k, v in own.options.items() if k in (*interpreters, *audit["attack"])}
    judged = tuple(path for path in own.yardstick or () if yardstick_file.read(path).interpreter in interpreters)
    return own.model_copy(update=shared | audit | {"options": options, "yardstick": judged or None})


def _groups(names: Sequence[str], count: Count) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Group interpreters with the same number of photos: they share an audit, and PGD is forged once for all."""
    groups: dict[int, list[str]] = {}
    for name in names:
        n: int = count.get(name, count.get("default", 0)) if isinstance(count, dict) else count
        groups.setdefault(n, []).append(name)
    for n in sorted(groups, reverse=True):
        if n:
            yield n, tuple(groups[n])


def folder_names(classifiers: Sequence[str]) -> list[str]:
    """Name a folder for each classifier, none twice."""
    found: list[str] = []
    for name in classifiers:
        plain = slug(name.translate({ord(c): "-" for c in ":./"}))
        found.append(plain if plain not in found else f"{plain}-{len(found) + 1}")
    return found
