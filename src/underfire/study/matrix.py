"""Transfer in numbers: who is deceived by pictures that were made against somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underfire.metrics.estimate import Estimate
from underfire.study.numbers import average, ratio, success
from underfire.study.results import Row, Subject, _on


@dataclass(frozen=True)
class Seen:
    """PNGs made against one interpreter under one judge.

    Args:
        relative: their mean L1 over PGD's under the same judge; 1 is as exposed as an attack that ignores the map.
        l1: their mean L1.
        iou: their mean IoU.
        n: photos.
    """

    relative: float | None
    l1: float | None
    iou: float | None
    n: int


def seen(rows: Sequence[Row], pgd: Sequence[Row]) -> Seen:
    """One cell of the matrix, over the photos that both have."""
    images = {row["image_sha256"] for row in rows} & {row["image_sha256"] for row in pgd}
    mine, theirs = ([r for r in some if r["image_sha256"] in images] for some in (rows, pgd))
    l1, base = average(mine, "map_l1"), average(theirs, "map_l1")
    return Seen(ratio(l1, base), l1.value, average(mine, "map_iou").value, len(images))


def matrix(subject: Subject) -> dict[tuple[str, str], Seen]:
    """(made against, judged by) -> cell, on the photos that all main audits share."""
    found = {}
    for judge in subject.interpreters:
        pgd = _on(subject.shared, subject.rows("main", "pgd", judge))
        for against in subject.interpreters:
            if against == judge:
                rows = subject.rows("main", "adv2", judge)
            else:
                rows = [
                    row
                    for part in subject.of("main")
                    for row in part.transfer
                    if (row["attack"], row["against"], row["interpreter"]) == ("adv2", against, judge)
                    and row["judge_classifier"] == subject.name
                ]
            found[against, judge] = seen(_on(subject.shared, rows), pgd)
    return found


@dataclass(frozen=True)
class Across:
    """PNGs made on one classifier, judged on another by the same interpreter.

    Photos that the judge takes for the attacker's class while they are clean do not count as success.
    """

    made: Subject
    judge: Subject
    interpreter: str
    pgd: Estimate
    adv2: Estimate
    at_home: Estimate
    cell: Seen


def _moved(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["source_class"] != row["target_class"]]


def across(made: Subject, judge: Subject) -> list[Across]:
    """One line for each interpreter; empty where nothing was judged so."""
    found = []
    for name in made.interpreters:
        rows = [
            row
            for part in made.of("main")
            for row in part.transfer
            if (row["judge_classifier"], row["interpreter"]) == (judge.name, name)
        ]
        pgd, adv2 = ([row for row in rows if row["attack"] == attack] for attack in ("pgd", "adv2"))
        if adv2:
            home = _on(frozenset(row["image_sha256"] for row in _moved(adv2)), made.rows("main", "adv2", name))
            found.append(
                Across(
                    made,
                    judge,
                    name,
                    *(success(_moved(pgd)), success(_moved(adv2)), success(home)),
                    seen(adv2, pgd),
                )
            )
    return found
