"""Transfer in numbers: who is deceived by pictures that were made against somebody else. No torch, no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from underfire.metrics.estimate import Estimate
from underfire.study.numbers import average, by_photo, ratio, success
from underfire.study.results import Row, SubjectResults, on_photos


@dataclass(frozen=True)
class Exposure:
    """How far pictures that were made against one interpreter move the maps of one judge.

    Args:
        relative: their mean L1 over PGD's under the same judge; 1 is as exposed as an attack that ignores the map.
        l1: their mean L1.
        iou: their mean IoU.
        n: photos.
        by_photo: digest of a photo -> its L1.
    """

    relative: float | None
    l1: float | None
    iou: float | None
    n: int
    by_photo: Mapping[str, float] = field(default_factory=dict)


def exposure(rows: Sequence[Row], pgd: Sequence[Row]) -> Exposure:
    """Compare with PGD, over the photos that both have."""
    images = frozenset(row["image_sha256"] for row in rows) & frozenset(row["image_sha256"] for row in pgd)
    mine, theirs = (on_photos(images, some) for some in (rows, pgd))
    l1, base = average(mine, "map_l1"), average(theirs, "map_l1")
    return Exposure(ratio(l1, base), l1.value, average(mine, "map_iou").value, len(images), by_photo(mine, "map_l1"))


def matrix(subject: SubjectResults) -> dict[tuple[str, str], Exposure]:
    """Find (made against, judged by) -> exposure, on the photos that all main audits share."""
    found = {}
    for judge in subject.interpreters:
        pgd = on_photos(subject.shared, subject.rows("main", "pgd", judge))
        for against in subject.interpreters:
            if against == judge:
                rows = subject.rows("main", "adv2", judge)
            else:
                seen = _judged(subject, subject.name, judge)
                rows = [row for row in seen if (row["attack"], row["against"]) == ("adv2", against)]
            found[against, judge] = exposure(on_photos(subject.shared, rows), pgd)
    return found


def _judged(made: SubjectResults, judge: str, interpreter: str) -> list[Row]:
    """Rows of pictures that a subject's main audits made, as judged by another interpreter or classifier."""
    key = (judge, interpreter)
    return [r for a in made.of("main") for r in a.transfer if (r["judge_classifier"], r["interpreter"]) == key]


@dataclass(frozen=True)
class Across:
    """Pictures that were made on one classifier, judged on another one by the same interpreter.

    Args:
        made: where they were made.
        judge: where they are judged.
        interpreter: attacked, and judge.
        pgd: success of PGD there.
        adv2: success of ADV² there.
        at_home: success of ADV² where it was made, on the same photos.
        exposure: of ADV²'s maps there.

    Photos whose clean picture the judge takes for the attacker's class do not count.
    """

    made: SubjectResults
    judge: SubjectResults
    interpreter: str
    pgd: Estimate
    adv2: Estimate
    at_home: Estimate
    exposure: Exposure


def across(made: SubjectResults, judge: SubjectResults) -> list[Across]:
    """Find one line for each interpreter; empty where nothing was judged so."""
    lines = (_across(made, judge, name) for name in made.interpreters)
    return [line for line in lines if line is not None]


def _across(made: SubjectResults, judge: SubjectResults, name: str) -> Across | None:
    rows = _judged(made, judge.name, name)
    pgd, adv2 = ([row for row in rows if row["attack"] == attack] for attack in ("pgd", "adv2"))
    if not adv2:
        return None
    photos = frozenset(row["image_sha256"] for row in _moved(adv2))
    home = on_photos(photos, made.rows("main", "adv2", name))
    rates = success(_moved(pgd)), success(_moved(adv2)), success(home)
    return Across(made, judge, name, *rates, exposure(adv2, pgd))


def by_others(made: SubjectResults, judge: SubjectResults) -> dict[str, bool]:
    """Tell of each photo whether PGD's picture that was made on one classifier reaches its class on another one."""
    rows = [row for name in made.interpreters for row in _judged(made, judge.name, name)]
    return {row["image_sha256"]: row["success"] for row in _moved(rows) if row["attack"] == "pgd"}


def _moved(rows: Sequence[Row]) -> list[Row]:
    """Rows of photos that the judge does not take for the attacker's class already."""
    return [row for row in rows if row["source_class"] != row["target_class"]]
