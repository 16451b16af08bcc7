"""Budgets: ADV² on the same photos at several ε, and the smallest ε that forges each photo. No torch, no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from underfire.metrics.estimate import Estimate, rate
from underfire.metrics.smallest import quartiles
from underfire.metrics.verdict import OLD
from underfire.study.numbers import Distance, Effectiveness, average, effectiveness_of
from underfire.study.results import Row, SubjectResults, on_photos


@dataclass(frozen=True)
class Budget:
    """One interpreter over several ε.

    Args:
        interpreter: attacked, and judge.
        cells: ε in levels -> effectiveness and map distances.
        smallest: digest of a photo -> the smallest ε that forges it; None where none does.
        photos: path of a photo and the same, sorted by path.
    """

    interpreter: str
    cells: Mapping[int, tuple[Effectiveness, Distance]]
    smallest: Mapping[str, int | None]
    photos: Sequence[tuple[str, int | None]]

    def count(self, eps: int | None) -> int:
        """Count the photos whose smallest ε is this one."""
        return sum(found == eps for found in self.smallest.values())

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

    Audits from before there were yardsticks have a scale of their own each. Of these the main audit's holds for all ε,
    so that forged rates compare.
    """
    tried = _tried(subject, interpreter)
    of = [frozenset(row["image_sha256"] for row in rows) for rows in tried.values()]
    photos = frozenset.intersection(*of) if of else frozenset()
    if not photos:
        return None
    main = subject.rows("main", "adv2", interpreter) or [row for rows in tried.values() for row in rows]
    scale = max((row["untouched_l1"] for row in main if row["untouched_l1"] is not None), default=None)
    by_eps = {eps: _forged(on_photos(photos, tried[eps]), scale) for eps in sorted(tried)}
    smallest: dict[str, int | None] = dict.fromkeys(sorted(photos))
    for eps, rows in reversed(by_eps.items()):
        smallest |= {row["image_sha256"]: eps for row in rows if row["forged"]}
    paths = {row["image_sha256"]: row["image"] for rows in by_eps.values() for row in rows}
    by_path = sorted(((paths[digest], eps) for digest, eps in smallest.items()), key=lambda one: one[0])
    cells = {eps: (effectiveness_of(rows), _distance(interpreter, rows)) for eps, rows in by_eps.items()}
    return Budget(interpreter, cells, smallest, by_path)


def _tried(subject: SubjectResults, interpreter: str) -> dict[int, list[Row]]:
    """ε -> rows of ADV² on one interpreter, the main audit's included; empty where no other ε was asked for."""
    budgets = [audit for audit in subject.of("budget") if interpreter in audit.interpreters]
    mains = [audit for audit in subject.of("main") if interpreter in audit.interpreters]
    key = ("adv2", interpreter)
    found = {}
    for audit in [*budgets, *mains] if budgets else ():
        rows = [row for row in audit.rows if (row["attack"], row["interpreter"]) == key]
        if rows:
            found[audit.eps] = rows
    return found


def _forged(rows: Iterable[Row], scale: float | None) -> list[Row]:
    """Judge rows that no yardstick has judged anew by one scale: a success whose map moved no further is forged."""

    def judged(row: Row) -> bool | None:
        if row.get("yardstick") != OLD:
            return None if row["forged"] is None else bool(row["forged"])
        return None if scale is None else bool(row["success"] and row["map_l1"] <= scale)

    return [{**row, "forged": judged(row)} for row in rows]


def _distance(interpreter: str, rows: Sequence[Row]) -> Distance:
    return Distance("adv2", interpreter, average(rows, "map_l1"), average(rows, "map_iou"), ())
