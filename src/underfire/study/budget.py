"""Budgets: ADV² on the same photos at several ε, and the smallest ε that forges each photo. No torch, no HTML."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from underfire.metrics.decision import FEW
from underfire.metrics.estimate import Estimate, rate
from underfire.metrics.smallest import quartiles
from underfire.metrics.verdict import Ruler, verdict
from underfire.store import open_results
from underfire.study.numbers import Distance, Effectiveness, average, effectiveness_of
from underfire.study.results import Row, SubjectResults, on_photos


@dataclass(frozen=True)
class Budget:
    """One interpreter over several ε.

    Args:
        interpreter: attacked, and judge.
        n: number of photos.
        cells: ε in levels -> effectiveness and map distances.
        smallest: digest of a photo -> the smallest ε that forges it; None where none does. Empty where a cell's forged
            rate is not told: the explanation cannot tell, or was not calibrated.
        photos: path of a photo and the same, sorted by path.
    """

    interpreter: str
    n: int
    cells: Mapping[int, tuple[Effectiveness, Distance]]
    smallest: Mapping[str, int | None]
    photos: Sequence[tuple[str, int | None]]

    def count(self, eps: int | None) -> int:
        """Count the photos whose smallest ε is this one."""
        return sum(found == eps for found in self.smallest.values())

    @property
    def many(self) -> bool:
        """Whether there are enough photos to speak of quarters of them."""
        return self.n >= FEW

    @property
    def quartiles(self) -> tuple[float | None, float | None, float | None]:
        """The smallest of these ε that forges a quarter, a half and three quarters of the photos; None: more."""
        return quartiles([*self.smallest.values()])

    @property
    def curve(self) -> list[tuple[float, Estimate]]:
        """The share of photos that need no more than each ε, with its interval."""
        needed = self.smallest.values()
        return [(eps, rate([one is not None and one <= eps for one in needed])) for eps in self.cells]


def budget(subject: SubjectResults, interpreter: str) -> Budget | None:
    """Compare ADV² on the photos that were tried at every ε; None where there are none.

    What the main audit is judged by judges all of them. An audit of few photos has no yardstick of its own, or another
    scale, and forged rates would not compare.
    """
    tried = _tried(subject, interpreter)
    of = [frozenset(row["image_sha256"] for row in rows) for rows in tried.values()]
    photos = frozenset.intersection(*of) if of else frozenset()
    if not photos:
        return None
    ruler = main_ruler(subject, interpreter)
    by_eps = {eps: _judged(on_photos(photos, tried[eps]), ruler) for eps in sorted(tried)}
    cells = {eps: (effectiveness_of(rows), _distance(interpreter, rows)) for eps, rows in by_eps.items()}
    if any(cell.in_place for cell, _ in cells.values()):
        return Budget(interpreter, len(photos), cells, {}, ())
    smallest: dict[str, int | None] = dict.fromkeys(sorted(photos))
    for eps, rows in reversed(by_eps.items()):
        smallest |= {row["image_sha256"]: eps for row in rows if row["forged"]}
    paths = {row["image_sha256"]: row["image"] for rows in by_eps.values() for row in rows}
    by_path = sorted(((paths[digest], eps) for digest, eps in smallest.items()), key=lambda one: one[0])
    return Budget(interpreter, len(photos), cells, smallest, by_path)


def main_ruler(subject: SubjectResults, interpreter: str) -> Ruler | None:
    """Find what the main audit is judged by; None where there is none, or it is not calibrated."""
    mains = [audit for audit in subject.of("main") if interpreter in audit.interpreters]
    return open_results(mains[0].out).rulers.get(interpreter) if mains else None


def _tried(subject: SubjectResults, interpreter: str) -> dict[int, list[Row]]:
    """ε -> rows of ADV² on one interpreter, the main audit's included; empty where no other ε was asked for."""
    budgets = [audit for audit in subject.of("budget") if interpreter in audit.interpreters]
    mains = [audit for audit in subject.of("main") if interpreter in audit.interpreters]
    key = ("adv2", interpreter)
    found = {}
    for audit in [*budgets, *mains] if budgets else ():
        rows = [row for row in (*audit.rows, *audit.lost) if (row["attack"], row["interpreter"]) == key]
        if rows:
            found[audit.eps] = rows
    return found


def _judged(rows: Iterable[Row], ruler: Ruler | None) -> list[Row]:
    """Judge rows anew by one ruler; by what they were judged by where there is none."""
    if ruler is None:
        return list(rows)
    return [{**row, **dataclasses.asdict(verdict(row, {row["interpreter"]: ruler}))} for row in rows]


def _distance(interpreter: str, rows: Sequence[Row]) -> Distance:
    return Distance("adv2", interpreter, average(rows, "map_l1"), average(rows, "map_iou"), ())
